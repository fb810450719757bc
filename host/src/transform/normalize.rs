//! Converts bytes to normalised floats with a table of 256 values for each channel.

/// The normalised value of each byte of each channel: `((v / 255) − mean) / std`. Each step is rounded to `f32`,
/// like torchvision's `ToTensor` and `Normalize`.
pub(super) struct NormalizationTable([[f32; 256]; 3]);

impl NormalizationTable {
    pub(super) fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self(std::array::from_fn(|channel| {
            std::array::from_fn(|value| (value as f32 / 255.0 - mean[channel]) / std[channel])
        }))
    }

    /// Returns the normalised value of one byte.
    pub(super) fn get(&self, channel: usize, value: u8) -> f32 {
        self.0[channel][usize::from(value)]
    }

    /// Normalises pixels.
    ///
    /// # Shapes
    /// `[height, width, 3]` → `[3, height, width]`
    pub(super) fn normalize(&self, pixels: &[u8], into: &mut [f32]) {
        let (pixels, _) = pixels.as_chunks::<3>();
        let plane = (into.len() / 3).max(1);
        for (channel, values) in into.chunks_exact_mut(plane).enumerate() {
            let table = &self.0[channel];
            for (value, pixel) in values.iter_mut().zip(pixels) {
                *value = table[usize::from(pixel[channel])];
            }
        }
    }
}
