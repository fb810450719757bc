//! Sampling of the next token. Agrees with the logits processors of `transformers/generation`.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

/// The sampling settings. The default is greedy: always the most likely token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy. Values below 1 sharpen the distribution, values above 1 flatten it.
    pub temperature: f64,
    /// Sample only from the most likely tokens that together have this probability. 1 turns it off.
    pub top_p: f64,
    /// Sample only from this number of the most likely tokens. 0 turns it off.
    pub top_k: usize,
    /// The seed. The same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
        }
    }
}

/// A setting is out of its range, or the logits cannot be sampled from.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SamplerError {
    /// The temperature is negative or not a number.
    #[error("expected a temperature of 0 (greedy) or more, found {0}")]
    Temperature(f64),
    /// Top-p is outside (0, 1].
    #[error("expected top-p above 0 and at most 1, found {0}")]
    TopP(f64),
    /// The logits are not numbers.
    #[error(
        "the language model's logits are not numbers at token {0}\n  \
         do: check its weights; a damaged file or an overflow in half precision can cause this"
    )]
    NotNumbers(usize),
}

/// Samples one token after another.
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    drawn: usize,
}

impl Sampler {
    /// Creates a sampler, seeded with the seed of its settings.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of its range.
    pub fn new(sampling: Sampling) -> Result<Self, SamplerError> {
        if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
            return Err(SamplerError::Temperature(sampling.temperature));
        }
        if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
            return Err(SamplerError::TopP(sampling.top_p));
        }
        Ok(Self {
            sampling,
            random: ChaCha8Rng::seed_from_u64(sampling.seed),
            drawn: 0,
        })
    }

    /// Returns the next token. It is never one of `forbidden`.
    ///
    /// # Errors
    ///
    /// Returns an error if the logits are not numbers.
    pub fn next(&mut self, logits: &[f32], forbidden: &[u32]) -> Result<u32, SamplerError> {
        self.drawn += 1;
        if logits.is_empty() || logits.iter().any(|logit| logit.is_nan()) {
            return Err(SamplerError::NotNumbers(self.drawn));
        }
        let allowed = |id: usize| !forbidden.contains(&(id as u32));
        let candidates = logits
            .iter()
            .copied()
            .enumerate()
            .filter(|(id, _)| allowed(*id));
        let greedy = self.sampling.temperature == 0.0 || self.sampling.top_k == 1;
        if greedy {
            // The first of equal logits, as in torch's argmax.
            let best = candidates.reduce(|best, next| if next.1 > best.1 { next } else { best });
            return best
                .map(|(id, _)| id as u32)
                .ok_or(SamplerError::NotNumbers(self.drawn));
        }
        let mut ranked: Vec<(usize, f64)> = candidates
            .map(|(id, logit)| (id, f64::from(logit) / self.sampling.temperature))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        if self.sampling.top_k > 0 {
            ranked.truncate(self.sampling.top_k);
        }
        let highest = ranked.first().map_or(0.0, |(_, logit)| *logit);
        if !highest.is_finite() {
            return Err(SamplerError::NotNumbers(self.drawn));
        }
        ranked
            .iter_mut()
            .for_each(|(_, logit)| *logit = (*logit - highest).exp());
        let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        // Top-p keeps the token that reaches the threshold.
        let mut kept = 0.0;
        let count = ranked
            .iter()
            .position(|(_, weight)| {
                kept += weight;
                kept >= self.sampling.top_p * total
            })
            .map_or(ranked.len(), |last| last + 1);
        ranked.truncate(count);
        let mut left = self.random.random::<f64>() * ranked.iter().map(|(_, w)| w).sum::<f64>();
        for (id, weight) in &ranked {
            left -= weight;
            if left < 0.0 {
                return Ok(*id as u32);
            }
        }
        // Because of rounding, a remainder can be left after the last token.
        ranked
            .last()
            .map(|(id, _)| *id as u32)
            .ok_or(SamplerError::NotNumbers(self.drawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.next(logits, &[]).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        let mut sampler = Sampler::new(Sampling::default()).unwrap();
        assert_eq!(sampler.next(&[1.0, 3.0, 3.0, -1.0], &[]).unwrap(), 1);
        assert_eq!(sampler.next(&[1.0, 3.0, 3.0, -1.0], &[1]).unwrap(), 2);
        assert_eq!(
            sampler.next(&[1.0, f32::NAN], &[]),
            Err(SamplerError::NotNumbers(3))
        );
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let sampling = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let found = counts(sampling, &logits, 20_000);
        for (count, expected) in found.iter().zip([0.5, 0.3, 0.15, 0.05]) {
            assert!(
                (*count as f64 / 20_000.0 - expected).abs() < 0.015,
                "{found:?}"
            );
        }
        let hot = counts(
            Sampling {
                temperature: 2.0,
                ..sampling
            },
            &logits,
            20_000,
        );
        assert!(
            hot[3] > found[3] * 2,
            "a higher temperature flattens: {hot:?}"
        );
    }

    #[test]
    fn top_k_and_top_p_remove_unlikely_tokens() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let base = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let k = counts(Sampling { top_k: 2, ..base }, &logits, 2000);
        assert!(k[0] > 0 && k[1] > 0 && k[2] == 0 && k[3] == 0, "{k:?}");
        // 0.5 + 0.3 crosses 0.6, so two are kept; 0.5 alone crosses 0.4.
        let p = counts(Sampling { top_p: 0.6, ..base }, &logits, 2000);
        assert!(p[1] > 0 && p[2] == 0, "{p:?}");
        assert_eq!(
            counts(Sampling { top_p: 0.4, ..base }, &logits, 100)[0],
            100
        );
    }

    #[test]
    fn top_k_is_applied_before_top_p_as_in_transformers() {
        // The tokens that `TemperatureLogitsWarper`, `TopKLogitsWarper` and `TopPLogitsWarper` of transformers
        // 4.57.1 keep when they are applied in this order.
        let logits = [0.1f32, 0.4, 0.02, 0.3, 0.15, 0.03].map(f32::ln);
        let cases: [(f64, usize, f64, &[usize]); 14] = [
            (1.0, 0, 0.75, &[1, 3, 4]),
            (1.0, 0, 0.55, &[1, 3]),
            (1.0, 2, 0.6, &[1, 3]),
            (1.0, 2, 0.55, &[1]),
            (1.0, 3, 0.75, &[1, 3]),
            (1.0, 5, 0.75, &[1, 3, 4]),
            (0.5, 0, 0.6, &[1, 3]),
            (0.5, 2, 0.75, &[1, 3]),
            (0.5, 2, 0.6, &[1]),
            (0.5, 3, 1.0, &[1, 3, 4]),
            (2.0, 0, 0.75, &[0, 1, 3, 4]),
            (2.0, 3, 0.75, &[1, 3]),
            (2.0, 5, 0.75, &[1, 3, 4]),
            (2.0, 5, 0.55, &[1, 3]),
        ];
        for (temperature, top_k, top_p, expected) in cases {
            let sampling = Sampling {
                temperature,
                top_p,
                top_k,
                seed: 3,
            };
            let counts = counts(sampling, &logits, 2000);
            let drawn: Vec<usize> = (0..logits.len()).filter(|&id| counts[id] > 0).collect();
            assert_eq!(drawn, expected, "{sampling:?}");
        }
    }

    #[test]
    fn a_seed_is_reproducible_and_invalid_settings_are_refused() {
        let logits = [0.1f32; 50];
        let draw = |seed| {
            let sampling = Sampling {
                temperature: 1.0,
                seed,
                ..Sampling::default()
            };
            let mut sampler = Sampler::new(sampling).unwrap();
            (0..20)
                .map(|_| sampler.next(&logits, &[]).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        for invalid in [
            Sampling {
                temperature: -1.0,
                ..Sampling::default()
            },
            Sampling {
                temperature: f64::NAN,
                ..Sampling::default()
            },
            Sampling {
                top_p: 0.0,
                ..Sampling::default()
            },
            Sampling {
                top_p: 1.5,
                ..Sampling::default()
            },
        ] {
            assert!(Sampler::new(invalid).is_err(), "{invalid:?}");
        }
    }
}
