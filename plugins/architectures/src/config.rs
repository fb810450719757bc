//! The `config.json` of a model, from Hugging Face or timm.

use crate::{Result, request};
use merv_checkpoint::text;
use merv_plugin_api::PluginError;
use serde::de::DeserializeOwned;
use std::path::Path;

/// The number of colour channels of a clip.
pub const CHANNELS: usize = 3;

/// The largest size of a config file, in bytes. Published files have a few thousand.
const MAX_BYTES: u64 = 1 << 26;

/// Reads a JSON config file.
///
/// # Errors
///
/// When the file cannot be read, is not JSON, or lacks a field that `T` needs. The message names the file,
/// the line and the column.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = text::read(path, MAX_BYTES).map_err(|error| {
        PluginError::weights(format!("the config file {} cannot be read", path.display()))
            .caused_by(&error)
    })?;
    serde_json::from_str(&text).map_err(|error| {
        PluginError::weights(format!("the config file {} is not valid", path.display()))
            .caused_by(&error)
    })
}

/// The largest number of layers of a model. Published models have fewer.
pub const MAX_LAYERS: usize = 1024;

/// The largest width, number of heads and similar size.
pub const MAX_SIZE: usize = 1 << 20;

/// The largest height and width of an image, in pixels.
pub const MAX_IMAGE: usize = 8192;

/// Checks that sizes are in `1..=most`. Config files are untrusted, and products of sizes can overflow.
///
/// # Errors
///
/// When a size is out of range. The message names it.
pub fn within(most: usize, sizes: &[(&str, usize)]) -> Result<()> {
    sizes.iter().try_for_each(|(name, size)| {
        require((1..=most).contains(size), || {
            format!("expected `{name}` from 1 to {most}, found {size}")
        })
    })
}

/// Checks that the width can be divided evenly among the heads of an attention.
///
/// # Errors
///
/// When `heads`, which must not be 0, does not divide `width`.
pub fn heads_divide(heads: usize, width: usize) -> Result<()> {
    require(width.is_multiple_of(heads), || {
        format!("{heads} heads do not divide the width {width}")
    })
}

/// Checks that the requested image size is the one that the model's position embeddings were trained for.
///
/// # Errors
///
/// When a size is requested that is not `learned`.
pub fn only_size(learned: usize, requested: Option<usize>) -> Result<()> {
    let requested = requested.unwrap_or(learned);
    request::fits(requested == learned, "image_size", requested, || {
        format!("{learned}, the size that the model's position embeddings were trained for")
    })
}

/// Checks that images have a red, a green and a blue channel.
///
/// # Errors
///
/// When `num_channels` is not 3.
pub fn colour(num_channels: usize) -> Result<()> {
    require(num_channels == CHANNELS, || {
        format!("expected `num_channels` to be {CHANNELS}, found {num_channels}")
    })
}

/// Adds the path of the config file, if there is one, to an error about its contents.
///
/// # Errors
///
/// The error of `result`.
pub fn in_file<T>(path: Option<&Path>, result: Result<T>) -> Result<T> {
    result.map_err(|mut error| {
        if let Some(path) = path {
            error.message = format!(
                "the config file {} does not describe a supported model: {}",
                path.display(),
                error.message
            );
        }
        error
    })
}

/// Converts a number of operations or parameters to `u64`, capped at the largest one.
pub fn clamped(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Returns an error about a config value unless `ok`.
///
/// # Errors
///
/// When `ok` is false. `message` returns the text.
pub fn require(ok: bool, message: impl FnOnce() -> String) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(PluginError::weights(message()))
    }
}
