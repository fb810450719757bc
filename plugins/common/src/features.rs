//! Clips in, features out: the checks and the loop that encoders share.

use crate::{Result, patch::CHANNELS, tensor::with_slice};
use candle_core::Tensor;
use merv_plugin_api::{EncoderInfo, PluginError, TensorBuf, TensorView};

/// Runs `encode` on consecutive groups of `group` frames of every clip and hands all features over.
///
/// The clips are read where the host keeps them; `encode` gets `[group, 3, size, size]` and returns
/// `[rows, width]`. A group that fits the cache is faster than a whole batch.
///
/// # Errors
///
/// When the clips have not the shape that `info` promises, `group` does not divide the frames, or
/// `encode` fails or returns too few or too many features.
pub fn encode_in_groups(
    clips: &TensorView<'_>,
    info: &EncoderInfo,
    group: usize,
    mut encode: impl FnMut(&[f32]) -> Result<Tensor>,
) -> Result<TensorBuf> {
    let (frames, size) = (info.num_frames as usize, info.image_size as usize);
    let [batch, f, channels, height, width] = clips.dims::<5>()?;
    if [f, channels, height, width] != [frames, CHANNELS, size, size] || batch == 0 {
        return Err(PluginError::invalid(format!(
            "expected clips of shape [batch, {frames}, {CHANNELS}, {size}, {size}], found {:?}",
            clips.shape()
        )));
    }
    if group == 0 || !frames.is_multiple_of(group) {
        return Err(PluginError::invalid(format!(
            "{frames} frames are no whole groups of {group}"
        )));
    }
    let tokens = info.temporal as usize * info.spatial as usize;
    let mut features = Vec::with_capacity(batch * tokens * info.width as usize);
    for part in clips.f32s()?.chunks_exact(group * CHANNELS * size * size) {
        with_slice(&encode(part)?, |rows| {
            features.extend_from_slice(rows);
            Ok(())
        })?;
    }
    TensorBuf::from_vec(features, &[batch, tokens, info.width as usize])
}
