//! Patch and tubelet embeddings. The stride of the convolution equals its kernel, so it is a gather and a
//! product.

use crate::{Result, config::CHANNELS, layers::linear::Linear, tensor::from_vec, weights::Scope};
use candle_core::Tensor;
use merv_plugin_api::PluginError;
use rayon::prelude::*;

/// Divides a clip into patches of `tubelet` frames and `patch` × `patch` pixels, and projects each patch.
///
/// Agrees with `torch.nn.Conv2d` (tubelet 1) and `torch.nn.Conv3d` with a stride equal to the kernel: pixels
/// at the right and bottom edges that do not fill a patch are ignored.
pub struct PatchEmbed {
    projection: Linear,
    tubelet: usize,
    patch: usize,
}

impl PatchEmbed {
    /// Creates a two-dimensional embedding: takes `weight [width, 3, patch, patch]` and, if `bias`, `bias`.
    pub fn new_2d(patch: usize, width: usize, bias: bool, scope: &Scope<'_>) -> Self {
        Self::new(&[width, CHANNELS, patch, patch], 1, patch, bias, scope)
    }

    /// Creates a three-dimensional embedding: takes `weight [width, 3, tubelet, patch, patch]` and `bias`.
    pub fn new_3d(tubelet: usize, patch: usize, width: usize, scope: &Scope<'_>) -> Self {
        Self::new(
            &[width, CHANNELS, tubelet, patch, patch],
            tubelet,
            patch,
            true,
            scope,
        )
    }

    fn new(shape: &[usize], tubelet: usize, patch: usize, bias: bool, scope: &Scope<'_>) -> Self {
        let weight = scope.parameter("weight", shape);
        let bias = bias.then(|| scope.small_parameter("bias", &shape[..1]));
        Self {
            projection: Linear::from_parts(weight, bias),
            tubelet,
            patch,
        }
    }

    /// # Shapes
    ///
    /// A slice `[frames, 3, size, size]` →
    /// `[frames / tubelet · (size / patch)², width]`
    ///
    /// # Errors
    ///
    /// When the slice has another length, or `tubelet` does not divide `frames`.
    pub fn forward(&self, frames: &[f32], size: usize) -> Result<Tensor> {
        let plane = size * size;
        let frame = CHANNELS * plane;
        if frame == 0 || !frames.len().is_multiple_of(frame * self.tubelet) {
            return Err(PluginError::invalid(format!(
                "{} numbers are not a whole number of tubelets of {} frames of 3x{size}x{size}",
                frames.len(),
                self.tubelet
            )));
        }
        let grid = size / self.patch;
        let columns = CHANNELS * self.tubelet * self.patch * self.patch;
        let times = frames.len() / (frame * self.tubelet);
        let mut patches = vec![0.0f32; times * grid * grid * columns];
        // One task for each row of patches.
        patches
            .par_chunks_mut((grid * columns).max(1))
            .enumerate()
            .for_each(|(index, out)| {
                let (time, y) = (index / grid, index % grid);
                for (x, patch) in out.chunks_exact_mut(columns).enumerate() {
                    let lines = patch.chunks_exact_mut(self.patch).enumerate();
                    for (line, out) in lines {
                        // The columns have the order of the kernel: channel, frame, line, pixel.
                        let (rest, row) = (line / self.patch, line % self.patch);
                        let (channel, offset) = (rest / self.tubelet, rest % self.tubelet);
                        let start = (time * self.tubelet + offset) * frame
                            + channel * plane
                            + (y * self.patch + row) * size
                            + x * self.patch;
                        out.copy_from_slice(&frames[start..start + self.patch]);
                    }
                }
            });
        self.projection
            .forward(&from_vec(patches, (times * grid * grid, columns))?)
    }
}
