//! Config files beside the weights: Hugging Face's and timm's `config.json`.

use crate::{Result, request};
use merv_checkpoint::text;
use merv_plugin_api::PluginError;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Colour channels of a clip.
pub const CHANNELS: usize = 3;

/// Bytes of a config file at most; published ones have some thousand.
const MAX_BYTES: u64 = 1 << 26;

/// Reads a JSON config file.
///
/// # Errors
///
/// When the file cannot be read, is no JSON, or lacks what `T` needs; the message names the file and
/// the place in it.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = text::read(path, MAX_BYTES).map_err(|error| {
        PluginError::weights(format!("the config file {} cannot be read", path.display()))
            .caused_by(&error)
    })?;
    serde_json::from_str(&text).map_err(|error| {
        PluginError::weights(format!("the config file {} does not fit", path.display()))
            .caused_by(&error)
    })
}

/// Layers of a model at most: no published one has as many.
pub const MAX_LAYERS: usize = 1024;

/// Widths, counts of heads and the like at most.
pub const MAX_SIZE: usize = 1 << 20;

/// Height and width of an image at most, in pixels.
pub const MAX_IMAGE: usize = 8192;

/// Refuses sizes outside `1..=most`: config files are untrusted, and sizes are multiplied.
///
/// # Errors
///
/// When one is outside; the message names it.
pub fn within(most: usize, sizes: &[(&str, usize)]) -> Result<()> {
    sizes.iter().try_for_each(|(name, size)| {
        require((1..=most).contains(size), || {
            format!("expected `{name}` from 1 to {most}, found {size}")
        })
    })
}

/// Refuses a width that the attention's heads do not share evenly.
///
/// # Errors
///
/// When `heads`, which must not be 0, does not divide `width`.
pub fn heads_divide(heads: usize, width: usize) -> Result<()> {
    require(width.is_multiple_of(heads), || {
        format!("{heads} heads do not divide the width {width}")
    })
}

/// Refuses another image size than the one that a model's positions were learned for.
///
/// # Errors
///
/// When a size is asked for and it is not `learned`.
pub fn only_size(learned: usize, asked: Option<usize>) -> Result<()> {
    let asked = asked.unwrap_or(learned);
    request::fits(asked == learned, "image_size", asked, || {
        format!("{learned}, for which the model's positions were learned")
    })
}

/// Refuses pictures of other colours than red, green and blue.
///
/// # Errors
///
/// When `num_channels` is not three.
pub fn colour(num_channels: usize) -> Result<()> {
    require(num_channels == CHANNELS, || {
        format!("expected `num_channels` to be {CHANNELS}, found {num_channels}")
    })
}

/// Names the config file, if there is one, in an error about what is in it.
///
/// # Errors
///
/// That of `result`.
pub fn in_file<T>(path: Option<&Path>, result: Result<T>) -> Result<T> {
    result.map_err(|mut error| {
        if let Some(path) = path {
            error.message = format!(
                "the config file {} does not fit: {}",
                path.display(),
                error.message
            )
            .into();
        }
        error
    })
}

/// As much of a count of operations or parameters as a `u64` holds.
pub fn clamped(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// An error unless `ok`: a config value that makes no model.
///
/// # Errors
///
/// When `ok` is false, with what `message` says.
pub fn require(ok: bool, message: impl FnOnce() -> String) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(PluginError::weights(message()))
    }
}
