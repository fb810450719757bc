//! Estimates the memory of a model before it is loaded.
//!
//! Weights and the language model's cache are computed exactly. The memory that a plugin needs while it computes
//! is estimated from the sizes that it states.

use merv_host::transform::PixelKind;
use merv_plugin_api::{EncoderInfo, LanguageModelInfo};
use serde::Serialize;

/// Bytes of a number in the host: of features and mixer parameters.
const F32: u64 = 4;

/// The number of copies of the tokens in memory while a block of an encoder runs: the residual stream, the output
/// of the norm, and the MLP's hidden features, which are four times as wide.
const ENCODER_COPIES: u64 = 6;

/// The same for a block of a language model. Its MLP has two tensors of hidden features, each nearly three times
/// as wide.
const LLM_COPIES: u64 = 8;

/// Expected memory in bytes, by purpose.
#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Weights. They are mapped from their files and paged in, except the mixer's, which are copied.
    pub weights: u64,
    /// Clips, features and visual tokens, which are kept until the answer is complete.
    pub features: u64,
    /// The memory that a part also needs while it computes.
    pub activations: u64,
    /// Keys and values for a text of maximum length and a clip.
    pub cache: u64,
}

impl Memory {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        [self.weights, self.features, self.activations, self.cache]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Returns the memory of parts that run one after another. Activations are freed in between.
    pub fn one_after_another(parts: impl Iterator<Item = Self>) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            weights: sum.weights.saturating_add(part.weights),
            features: sum.features.saturating_add(part.features),
            activations: sum.activations.max(part.activations),
            cache: sum.cache.saturating_add(part.cache),
        })
    }

    /// Returns the memory of an encoder whose weights need `weights` bytes.
    pub fn of_encoder(info: &EncoderInfo, weights: u64) -> Self {
        let clip = product(&[info.num_frames, 3, info.image_size(), info.image_size()]);
        let features = product(&[info.temporal, info.spatial, info.width]);
        // Linear layers use every parameter once for each token. The encoder may have more tokens inside than
        // at its output.
        let inside = info.macs_per_clip / info.parameters.max(1);
        let tokens = inside.max(product(&[info.temporal, info.spatial]));
        Self {
            weights,
            features: clip
                .saturating_mul(PixelKind::of(info).bytes() as u64)
                .saturating_add(features.saturating_mul(F32)),
            activations: [u64::from(info.width), ENCODER_COPIES, F32]
                .into_iter()
                .fold(tokens, u64::saturating_mul),
            cache: 0,
        }
    }

    /// Returns the memory of a mixer with `parameters` parameters, whose projectors return `projected` tokens and
    /// whose fusion returns `fused` tokens.
    pub fn of_mixer(parameters: u64, projected: &[usize], fused: usize, width: u32) -> Self {
        let tokens = projected
            .iter()
            .chain([&fused])
            .fold(0u64, |sum, &tokens| sum.saturating_add(tokens as u64));
        let features = tokens.saturating_mul(u64::from(width)).saturating_mul(F32);
        Self {
            weights: parameters.saturating_mul(F32),
            features,
            // One of its steps at a time has its input and its output in memory.
            activations: features,
            cache: 0,
        }
    }

    /// Returns the memory of a language model whose weights need `weights` bytes, for `positions` tokens.
    pub fn of_llm(info: &LanguageModelInfo, positions: u64, weights: u64) -> Self {
        let stream = [u64::from(info.width), LLM_COPIES, F32]
            .into_iter()
            .fold(positions, u64::saturating_mul);
        Self {
            weights,
            features: 0,
            activations: stream.saturating_add(u64::from(info.vocab_size) * F32),
            cache: positions.saturating_mul(info.cache_bytes_per_token),
        }
    }
}

fn product(factors: &[u32]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| {
        product.saturating_mul(u64::from(factor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_those_of_the_part_that_needs_the_most() {
        let part = |weights, activations| Memory {
            weights,
            activations,
            ..Memory::default()
        };
        let sum = Memory::one_after_another([part(1, 10), part(2, 30), part(4, 20)].into_iter());
        assert_eq!(sum, part(7, 30));
        assert_eq!(sum.total(), 37);
    }

    #[test]
    fn overflowing_sums_saturate() {
        let memory = Memory::of_mixer(u64::MAX, &[usize::MAX, 3], 4, u32::MAX);
        assert_eq!(memory.weights, u64::MAX);
        assert_eq!(memory.total(), u64::MAX);
    }
}
