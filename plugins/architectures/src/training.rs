//! What the host asks of a model in training, checked.

use crate::Result;
use merv_plugin_api::{PluginError, ReadyGradients, TrainingOptions};

/// Returns the error of a model whose training has not begun.
pub fn not_begun() -> PluginError {
    PluginError::invalid("training has not begun: call begin_training")
}

/// Checks that a plugin without options of its own understands how to train.
///
/// # Errors
///
/// When there is another option.
pub fn check_options(requested: &TrainingOptions) -> Result<()> {
    match requested.extra.keys().next() {
        None => Ok(()),
        Some(key) => Err(PluginError::unsupported(format!(
            "this plugin does not know the training option `{key}`"
        ))),
    }
}

/// Returns the error of a model that is trained already and should be frozen.
pub fn cannot_freeze() -> PluginError {
    PluginError::invalid(
        "the model is already being trained and cannot be frozen again; load it again instead",
    )
}

/// Returns whether weight decay applies to a parameter.
pub fn decays(name: &str, shape: &[usize]) -> bool {
    shape.len() > 1 && !name.ends_with("bias")
}

/// Checks the number of values for a range.
///
/// # Errors
///
/// When it differs from the length of the range.
pub fn same_length(name: &str, expected: usize, found: usize) -> Result<()> {
    match expected == found {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "expected {expected} elements for `{name}`, found {found}"
        ))),
    }
}

/// Tells the host that gradients are ready, unless there are none.
///
/// # Errors
///
/// The error of `ready`.
pub fn tell(ready: &mut ReadyGradients<'_>, parameters: &[u32]) -> Result<()> {
    match parameters.is_empty() {
        true => Ok(()),
        false => ready(parameters),
    }
}
