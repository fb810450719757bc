//! Fields of a request, and checks of them.

use crate::{Result, precision::Precision};
use merv_plugin_api::{DType, Device, ModelSource, PluginError};
use std::fmt::Display;

/// Returns the precision that a request selects for matrix products on the CPU: `f32` by default.
///
/// # Errors
///
/// When the request selects a device other than the CPU, or a dtype other than `f32` and `bf16`.
pub fn precision(source: &ModelSource) -> Result<Precision> {
    if source.device != Device::CPU {
        return Err(PluginError::unsupported(format!(
            "`{}` was requested on {}, but this plugin only supports the cpu; \
             set `device = \"cpu\"`",
            source.id, source.device
        )));
    }
    precision_or(source, Precision::F32)
}

/// Returns the precision that a request selects for matrix products on its device, or `default`.
///
/// # Errors
///
/// When the request selects a dtype other than `f32` and `bf16`.
pub fn precision_or(source: &ModelSource, default: Precision) -> Result<Precision> {
    match source.dtype {
        None => Ok(default),
        Some(DType::F32) => Ok(Precision::F32),
        Some(DType::BF16) => Ok(Precision::Bf16),
        Some(other) => Err(PluginError::unsupported(format!(
            "`{}` was requested in {other}, but on the {} it computes in f32 or bf16; \
             set `dtype = \"auto\"` (weights in f16 and bf16 need no conversion)",
            source.id, source.device.kind
        ))),
    }
}

/// Returns an error about the value of `key` in a request unless `ok`. Such a value is a mistake in the
/// registry, not in a file of the model.
///
/// # Errors
///
/// When `ok` is false. The message contains the key, the text of `expected`, and the `requested` value.
pub fn fits(
    ok: bool,
    key: &str,
    requested: impl Display,
    expected: impl FnOnce() -> String,
) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "expected `{key}` to be {}, found {requested}",
        expected()
    )))
}
