//! The shapes of clips and features.

use crate::{Result, config::CHANNELS};
use merv_plugin_api::{EncoderInfo, PluginError, TensorView};

/// Returns the number of features of a clip.
pub fn tokens_of(info: &EncoderInfo) -> usize {
    info.temporal as usize * info.spatial as usize
}

/// Returns the number of clips in a batch that is encoded in groups of `group` frames.
///
/// # Errors
///
/// When the clips do not have the shape of `info`, or `group` does not divide the number of frames.
pub fn check_clips(clips: &TensorView<'_>, info: &EncoderInfo, group: usize) -> Result<usize> {
    let (frames, size) = (info.num_frames as usize, info.image_size() as usize);
    let [batch, f, channels, height, width] = clips.dims::<5>()?;
    if [f, channels, height, width] != [frames, CHANNELS, size, size] || batch == 0 {
        return Err(PluginError::invalid(format!(
            "expected clips of shape [batch, {frames}, {CHANNELS}, {size}, {size}], found {:?}",
            clips.shape()
        )));
    }
    if group == 0 || !frames.is_multiple_of(group) {
        return Err(PluginError::invalid(format!(
            "{frames} frames cannot be divided into groups of {group}"
        )));
    }
    Ok(batch)
}

/// Checks the gradient of features. `fits` tells whether the forward pass had that many clips.
///
/// # Errors
///
/// When the gradient does not have the shape of the features.
pub fn check_gradient(
    gradient: &TensorView<'_>,
    info: &EncoderInfo,
    fits: impl FnOnce(usize) -> bool,
) -> Result<()> {
    let [batch, tokens, width] = gradient.dims::<3>()?;
    if [tokens, width] == [tokens_of(info), info.width as usize] && fits(batch) {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "expected a gradient of the features, [batch of the forward pass, {}, {}], found {:?}",
        tokens_of(info),
        info.width,
        gradient.shape()
    )))
}
