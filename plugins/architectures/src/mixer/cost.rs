//! The cost of layers, computed from their sizes.

use std::{iter::Sum, ops::Add};

/// The numbers of parameters and operations.
///
/// The operations are those of linear layers, convolutions and attention. As usual, norms, activations and pooling are
/// omitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// The number of parameters that are used in the computation.
    pub parameters: u64,
    /// The number of multiply-accumulate operations for one clip.
    pub macs: u64,
}

impl Cost {
    /// Returns the cost of a linear layer with bias, applied to `rows` rows.
    pub fn linear(inputs: usize, outputs: usize, rows: usize) -> Self {
        Self::matrix(inputs, outputs, rows) + Self::parameters(outputs)
    }

    /// Returns the cost of a matrix without bias, applied to `rows` rows.
    pub fn matrix(inputs: usize, outputs: usize, rows: usize) -> Self {
        Self {
            parameters: product(&[inputs, outputs]),
            macs: product(&[inputs, outputs, rows]),
        }
    }

    /// Returns the cost of a layer norm.
    pub fn norm(width: usize) -> Self {
        Self::parameters(width) + Self::parameters(width)
    }

    /// Returns the cost of parameters without multiplications.
    pub fn parameters(count: usize) -> Self {
        Self {
            parameters: count as u64,
            macs: 0,
        }
    }

    /// Returns the cost of operations without parameters.
    pub fn macs(factors: &[usize]) -> Self {
        Self {
            parameters: 0,
            macs: product(factors),
        }
    }
}

/// Multiplies sizes. They come from plugins and files, so the product saturates.
fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| {
        product.saturating_mul(factor as u64)
    })
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            parameters: self.parameters.saturating_add(other.parameters),
            macs: self.macs.saturating_add(other.macs),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Self::add)
    }
}
