//! What every plugin of this kit asks of a request.

use crate::{Result, precision::Precision};
use merv_plugin_api::{DType, DeviceKind, ModelSource, PluginError};
use std::{fmt::Display, path::PathBuf};

/// What a request wants matrix products computed in: `f32` unless it says otherwise.
///
/// # Errors
///
/// When the request names another device than the CPU, or another dtype than `f32` and `bf16`.
pub fn precision(source: &ModelSource) -> Result<Precision> {
    if source.device.kind != DeviceKind::Cpu {
        return Err(PluginError::unsupported(format!(
            "`{}` was asked for on {}, but this plugin was built for the cpu; \
             say `device = \"cpu\"`",
            source.id, source.device
        )));
    }
    match source.dtype.into_option() {
        None | Some(DType::F32) => Ok(Precision::F32),
        Some(DType::BF16) => Ok(Precision::Bf16),
        Some(other) => Err(PluginError::unsupported(format!(
            "`{}` was asked for in {other}, but on the cpu it computes in f32 or bf16; \
             say `dtype = \"auto\"` (weights of f16 and bf16 are read as they are)",
            source.id
        ))),
    }
}

/// Refuses a request whose `key` asks for something that the model cannot take. The registry is at fault
/// then, not a file of the model.
///
/// # Errors
///
/// Unless `ok`: the message names the key, what `expected` says, and what was `asked` for.
pub fn fits(
    ok: bool,
    key: &str,
    asked: impl Display,
    expected: impl FnOnce() -> String,
) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "expected `{key}` to be {}, found {asked}",
        expected()
    )))
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
