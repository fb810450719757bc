//! The rotary position embedding (arXiv 2104.09864). Agrees with Hugging Face's `LlamaRotaryEmbedding`.

use merv_plugin_sdk::{
    Result,
    architectures::llama::{Config, RopePairs, frequencies},
};

/// The angles by which pairs of coordinates are rotated from one position to the next.
pub struct Rope {
    /// `[head_dim / 2]`
    frequencies: Vec<f32>,
    pairs: RopePairs,
}

impl Rope {
    /// Computes the frequencies of `config`.
    ///
    /// # Errors
    ///
    /// When the kind of scaling is unknown or one of its factors is missing.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            frequencies: frequencies(config)?,
            pairs: config.rope_pairs,
        })
    }

    /// Divides each frequency by its factor. `factors` may be empty.
    #[must_use]
    pub fn divide_by(mut self, factors: &[f32]) -> Self {
        for (frequency, factor) in self.frequencies.iter_mut().zip(factors) {
            *frequency /= factor;
        }
        self
    }

    /// Returns the angle of each pair of coordinates at `position`.
    pub fn angles(&self, position: usize) -> Vec<Angle> {
        self.frequencies
            .iter()
            .map(|frequency| (position as f32 * frequency).sin_cos())
            .collect()
    }

    /// Rotates every head of `row` by the angles of its position.
    pub fn rotate(&self, row: &mut [f32], angles: &[Angle]) {
        let half = self.frequencies.len();
        for head in row.chunks_exact_mut(2 * half) {
            match self.pairs {
                RopePairs::Halves => {
                    let (first, second) = head.split_at_mut(half);
                    for ((a, b), angle) in first.iter_mut().zip(second).zip(angles) {
                        (*a, *b) = rotated(*a, *b, *angle);
                    }
                }
                RopePairs::Interleaved => {
                    for ([a, b], angle) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                        (*a, *b) = rotated(*a, *b, *angle);
                    }
                }
            }
        }
    }
}

/// The sine and cosine of an angle.
pub type Angle = (f32, f32);

fn rotated(a: f32, b: f32, (sin, cos): Angle) -> (f32, f32) {
    (a * cos - b * sin, b * cos + a * sin)
}
