//! From clips to features: the checks and the loop that encoders share.

use crate::{Result, config::CHANNELS, tensor::with_slice, threads::on_pool};
use candle_core::Tensor;
use merv_architectures::features::{check_clips, tokens_of};
use merv_plugin_api::{Call, EncoderInfo, PluginError, TensorBuf, TensorView};
use std::slice::ChunksExact;

/// Runs `encode` on consecutive groups of `group` frames of every clip and returns all features.
///
/// The clips are not copied. `encode` receives `[group, 3, size, size]` and returns `[rows, width]`. A group
/// that fits in the cache is faster than a whole batch.
///
/// # Errors
///
/// When the clips do not have the shape of `info`, `group` does not divide the number of frames, or `encode`
/// fails or returns a wrong number of features.
pub fn encode_in_groups(
    clips: &TensorView<'_>,
    info: &EncoderInfo,
    group: usize,
    mut encode: impl FnMut(&[f32]) -> Result<Tensor> + Send,
) -> Result<TensorBuf> {
    let (batch, groups) = clips_in_groups(clips, info, group)?;
    let mut features = Vec::with_capacity(batch * tokens_of(info) * info.width as usize);
    on_pool(|| {
        for part in groups {
            Call::current().check()?;
            with_slice(&encode(part)?, |rows| {
                features.extend_from_slice(rows);
                Ok(())
            })?;
        }
        Ok::<_, PluginError>(())
    })?;
    TensorBuf::from_vec(features, &[batch, tokens_of(info), info.width as usize])
}

/// Returns the number of clips, and their frames in groups.
///
/// # Errors
///
/// When the clips do not have the shape of `info`, or `group` does not divide the number of frames.
pub(crate) fn clips_in_groups<'a>(
    clips: &'a TensorView<'_>,
    info: &EncoderInfo,
    group: usize,
) -> Result<(usize, ChunksExact<'a, f32>)> {
    let batch = check_clips(clips, info, group)?;
    let size = info.image_size() as usize;
    let groups = clips.f32s()?.chunks_exact(group * CHANNELS * size * size);
    Ok((batch, groups))
}
