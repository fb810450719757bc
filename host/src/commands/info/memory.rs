//! What memory to expect, before anything is loaded.
//!
//! Weights and the language model's cache are counted; what a plugin needs while it computes is its own
//! affair and estimated from the sizes that it states.

use merv_plugin_api::{EncoderInfo, LanguageModelInfo};
use serde::Serialize;

/// Bytes of a number that the host keeps: a clip's, a feature's, a mixer's parameter.
const F32: u64 = 4;

/// Copies of the tokens that an encoder's block holds at once: the stream, what the norm made of it,
/// and the perceptron's inner features, four times as wide.
const ENCODER_COPIES: u64 = 6;

/// The same of a language model's: its perceptron has two inner features, each nearly three times as
/// wide.
const LLM_COPIES: u64 = 8;

/// Bytes by what they are for.
#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Weights: mapped from their files and paged in, but the mixer's, which are copied.
    pub weights: u64,
    /// Clips, features and visual tokens, which are kept until the answer is done.
    pub features: u64,
    /// What a part needs besides while it computes.
    pub activations: u64,
    /// Keys and values of a text and a clip of full length.
    pub cache: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        [self.weights, self.features, self.activations, self.cache]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Of parts that compute one after another: activations are given back in between.
    pub fn one_after_another(parts: impl Iterator<Item = Self>) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            weights: sum.weights.saturating_add(part.weights),
            features: sum.features.saturating_add(part.features),
            activations: sum.activations.max(part.activations),
            cache: sum.cache.saturating_add(part.cache),
        })
    }

    /// Of an encoder whose weights take `weights` bytes.
    pub fn of_encoder(info: &EncoderInfo, weights: u64) -> Self {
        let clip = product(&[info.num_frames, 3, info.image_size, info.image_size]);
        let features = product(&[info.temporal, info.spatial, info.width]);
        // In linear layers every parameter is used once for each token inside the encoder, which may be
        // more tokens than come out.
        let inside = info.macs_per_clip / info.parameters.max(1);
        let tokens = inside.max(product(&[info.temporal, info.spatial]));
        Self {
            weights,
            features: clip.saturating_add(features).saturating_mul(F32),
            activations: [u64::from(info.width), ENCODER_COPIES, F32]
                .into_iter()
                .fold(tokens, u64::saturating_mul),
            cache: 0,
        }
    }

    /// Of a mixer of `parameters`, whose projectors end at these numbers of tokens, `fused` after the
    /// fusion.
    pub fn of_mixer(parameters: u64, projected: &[usize], fused: usize, width: u32) -> Self {
        let tokens = projected
            .iter()
            .chain([&fused])
            .fold(0u64, |sum, &tokens| sum.saturating_add(tokens as u64));
        let features = tokens.saturating_mul(u64::from(width)).saturating_mul(F32);
        Self {
            weights: parameters.saturating_mul(F32),
            features,
            // One step of it at a time is held twice.
            activations: features,
            cache: 0,
        }
    }

    /// Of a language model whose weights take `weights` bytes and that is given `positions` at once.
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
    fn activations_are_those_of_the_hungriest_part() {
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
    fn what_is_too_large_to_count_is_the_largest_number() {
        let memory = Memory::of_mixer(u64::MAX, &[usize::MAX, 3], 4, u32::MAX);
        assert_eq!(memory.weights, u64::MAX);
        assert_eq!(memory.total(), u64::MAX);
    }
}
