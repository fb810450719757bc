//! Hiera's patch embedding: a convolution over time and space with overlapping patches.

use candle_core::Tensor;
use merv_plugin_sdk::{
    Result, config::CHANNELS, layers::linear::Linear, tensor::from_vec, weights::Scope,
};
use rayon::prelude::*;

/// `torch.nn.Conv3d` with zero padding, computed as a gather and a matrix product.
pub struct PatchEmbed {
    projection: Linear,
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    tokens: [usize; 3],
}

impl PatchEmbed {
    /// Loads `weight [width, 3, time, height, width]` and `bias`. `tokens` is the number of outputs over
    /// time, height and width.
    pub fn new(
        [kernel, stride, padding]: [[usize; 3]; 3],
        tokens: [usize; 3],
        width: usize,
        scope: &Scope<'_>,
    ) -> Self {
        let [t, h, w] = kernel;
        let weight = scope.parameter("weight", &[width, CHANNELS, t, h, w]);
        Self {
            projection: Linear::from_parts(weight, Some(scope.small_parameter("bias", &[width]))),
            kernel,
            stride,
            padding,
            tokens,
        }
    }

    /// Embeds the patches of a clip.
    ///
    /// # Shapes
    ///
    /// A slice `[frames, 3, size, size]` → `[tokens, width]`
    ///
    /// # Errors
    ///
    /// When a shape does not match.
    pub fn forward(&self, frames: &[f32], size: usize) -> Result<Tensor> {
        let [kernel_t, kernel_h, kernel_w] = self.kernel;
        let [times, rows, across] = self.tokens;
        let columns = CHANNELS * kernel_t * kernel_h * kernel_w;
        let plane = size * size;
        let count = frames.len() / (CHANNELS * plane);
        let mut patches = vec![0.0f32; times * rows * across * columns];
        // Each row of patches is one task.
        let by_row = patches.par_chunks_mut((across * columns).max(1));
        by_row.enumerate().for_each(|(index, out)| {
            let (time, y) = (index / rows, index % rows);
            for (x, patch) in out.chunks_exact_mut(columns).enumerate() {
                // Columns have the order of the kernel: channel, frame, line, pixel.
                for (line, out) in patch.chunks_exact_mut(kernel_w).enumerate() {
                    let (rest, row) = (line / kernel_h, line % kernel_h);
                    let (channel, offset) = (rest / kernel_t, rest % kernel_t);
                    let frame = time * self.stride[0] + offset;
                    let row = y * self.stride[1] + row;
                    let inside = |at: usize, padding: usize, end: usize| {
                        at.checked_sub(padding).filter(|&at| at < end)
                    };
                    let (Some(frame), Some(row)) = (
                        inside(frame, self.padding[0], count),
                        inside(row, self.padding[1], size),
                    ) else {
                        continue;
                    };
                    let pixels = &frames[(frame * CHANNELS + channel) * plane + row * size..];
                    for (column, out) in out.iter_mut().enumerate() {
                        let at = x * self.stride[2] + column;
                        if let Some(at) = inside(at, self.padding[2], size) {
                            *out = pixels[at];
                        }
                    }
                }
            }
        });
        self.projection
            .forward(&from_vec(patches, (times * rows * across, columns))?)
    }
}
