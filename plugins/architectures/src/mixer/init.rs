//! Initialises parameters with the distributions of PyTorch and of the original, from a seed.

use crate::Result;
use merv_plugin_api::{ErrorKind, PluginError};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest, Sha256};

/// The initial values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Uniformly distributed from −bound to bound.
    Uniform(f64),
    /// Normally distributed with mean 0 and this standard deviation.
    Normal(f64),
}

impl Init {
    /// Returns PyTorch's initialisation of the weights and biases of linear layers and convolutions with `inputs` inputs
    /// per output.
    pub fn fan_in(inputs: usize) -> Self {
        Self::Uniform(1.0 / (inputs as f64).sqrt())
    }

    /// Returns the initialisation of `torch.nn.init.xavier_uniform_` (Glorot and Bengio, 2010).
    pub fn xavier(inputs: usize, outputs: usize) -> Self {
        Self::Uniform((6.0 / (inputs as f64 + outputs as f64)).sqrt())
    }

    /// Returns the values of the parameter `name`. They depend only on the name and the seed, not on the machine or on
    /// other parameters.
    ///
    /// # Errors
    ///
    /// When there is not enough memory for them.
    pub fn values(self, name: &str, shape: &[usize], seed: u64) -> Result<Vec<f32>> {
        let count = shape
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size));
        let mut values = Vec::new();
        let reserved = count.and_then(|count| values.try_reserve_exact(count).ok());
        let (Some(count), Some(())) = (count, reserved) else {
            return Err(PluginError::new(
                ErrorKind::OUT_OF_MEMORY,
                format!("there is not enough memory for `{name}` {shape:?}"),
            ));
        };
        let mut numbers = Numbers::new(name, seed);
        values.extend((0..count).map(|_| match self {
            Self::Zeros => 0.0,
            Self::Ones => 1.0,
            Self::Uniform(bound) => (bound * numbers.signed()) as f32,
            Self::Normal(deviation) => (deviation * numbers.normal()) as f32,
        }));
        Ok(values)
    }
}

/// The random numbers of one parameter.
struct Numbers {
    random: ChaCha8Rng,
    /// The second number of a pair of normal numbers.
    second: Option<f64>,
}

impl Numbers {
    fn new(name: &str, seed: u64) -> Self {
        let digest = Sha256::digest(name);
        let stream = digest.iter().take(8);
        let stream = stream.fold(0, |stream, &byte| stream << 8 | u64::from(byte));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self {
            random,
            second: None,
        }
    }

    /// Returns a number that is uniformly distributed between −1 and 1, exclusive.
    fn signed(&mut self) -> f64 {
        let half = f64::from(self.random.next_u32()) + 0.5;
        half / f64::from(1u32 << 31) - 1.0
    }

    /// Returns a normally distributed number (Marsaglia's polar method).
    fn normal(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        loop {
            let (x, y) = (self.signed(), self.signed());
            let square = x * x + y * y;
            if square < 1.0 {
                let length = (-2.0 * ln(square) / square).sqrt();
                self.second = Some(y * length);
                return x * length;
            }
        }
    }
}

/// Returns the natural logarithm of a positive normal number. It uses only operations that every machine rounds in the
/// same way; the logarithms of system libraries differ in the last digit.
fn ln(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    let bits = x.to_bits();
    let exponent = ((bits & EXPONENT) >> 52) as i32 - 1023;
    // From 1 to 2.
    let mantissa = f64::from_bits(bits & !EXPONENT | 1023 << 52);
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    // 2·artanh(z), where z is at most 1/3.
    let series = (0..17)
        .rev()
        .fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * z * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_equals_that_of_the_standard_library() {
        for x in [1e-300, 3e-19, 0.001, 0.3, 0.5, 0.999_999, 1.0, 1.5, 2.0] {
            let (found, expected) = (ln(x), x.ln());
            assert!(
                (found - expected).abs() <= 1e-15 * expected.abs().max(1.0),
                "{x}: {found} {expected}"
            );
        }
    }

    /// Another machine and a later version must generate the same numbers.
    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let of = |init: Init, name: &str, seed| init.values(name, &[3], seed).unwrap();
        assert_eq!(of(Init::Uniform(1.0), "a", 0), UNIFORM);
        assert_eq!(of(Init::Normal(1.0), "a", 0), NORMAL);
        assert_ne!(of(Init::Normal(1.0), "a", 1), NORMAL);
        assert_ne!(of(Init::Normal(1.0), "b", 0), NORMAL);
    }

    const UNIFORM: [f32; 3] = [-0.027_766_652, -0.050_686_48, 0.302_191_02];
    const NORMAL: [f32; 3] = [-1.622_417_3, -2.961_632_5, 0.312_790_13];

    #[test]
    fn the_distributions_have_the_expected_moments() {
        let moments = |init: Init| {
            let values = init.values("x", &[100, 1000], 3).unwrap();
            let mean = |power: i32| {
                let sum: f64 = values.iter().map(|&x| f64::from(x).powi(power)).sum();
                sum / values.len() as f64
            };
            [mean(1), mean(2), mean(4)]
        };
        let close = |found: [f64; 3], expected: [f64; 3]| {
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 0.03, "{found} {expected}");
            }
        };
        close(moments(Init::Normal(1.0)), [0.0, 1.0, 3.0]);
        close(moments(Init::Uniform(1.0)), [0.0, 1.0 / 3.0, 0.2]);
    }

    #[test]
    fn values_that_do_not_fit_in_memory_are_an_error() {
        for shape in [&[usize::MAX, 2][..], &[1 << 60]] {
            let error = Init::Ones.values("x", shape, 0).unwrap_err();
            assert!(error.message.contains("memory for `x`"), "{error:?}");
        }
    }
}
