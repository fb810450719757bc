//! What every plugin of this kit asks of a request.

use crate::Result;
use merv_plugin_api::{DType, DeviceKind, ModelSource, PluginError};
use std::path::PathBuf;

/// Refuses devices and dtypes that these kernels do not compute on.
///
/// # Errors
///
/// When the request names another device than the CPU or another dtype than `f32`.
pub fn check_cpu_f32(source: &ModelSource) -> Result<()> {
    if source.device.kind != DeviceKind::Cpu {
        return Err(PluginError::unsupported(format!(
            "`{}` was asked for on {}, but this plugin was built for the cpu; \
             say `device = \"cpu\"`",
            source.id, source.device
        )));
    }
    match source.dtype.into_option() {
        None | Some(DType::F32) => Ok(()),
        Some(other) => Err(PluginError::unsupported(format!(
            "`{}` was asked for in {other}, but on the cpu it computes in f32; \
             say `dtype = \"auto\"` (weights of f16 and bf16 are read as they are)",
            source.id
        ))),
    }
}

/// The weights as paths.
pub fn weights(source: &ModelSource) -> Vec<PathBuf> {
    source
        .weights
        .iter()
        .map(|path| PathBuf::from(path.as_str()))
        .collect()
}

/// The config file, if the request names one.
pub fn config(source: &ModelSource) -> Option<PathBuf> {
    source
        .config
        .as_ref()
        .map(|path| PathBuf::from(path.as_str()))
        .into_option()
}
