//! What layers cost, counted from their sizes.

use std::{iter::Sum, ops::Add};

/// Parameters and operations.
///
/// Operations are those of linear layers, convolutions and attention, as the architecture defines
/// them; norms, activations and pooling are left out, as is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Parameters that take part in the computation.
    pub parameters: u64,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
}

impl Cost {
    /// A linear layer with bias that `rows` rows go through.
    pub(super) fn linear(inputs: usize, outputs: usize, rows: usize) -> Self {
        Self::matrix(inputs, outputs, rows) + Self::parameters(outputs)
    }

    /// A matrix without bias that `rows` rows go through.
    pub(super) fn matrix(inputs: usize, outputs: usize, rows: usize) -> Self {
        Self {
            parameters: product(&[inputs, outputs]),
            macs: product(&[inputs, outputs, rows]),
        }
    }

    /// A layer norm.
    pub(super) fn norm(width: usize) -> Self {
        Self::parameters(width) + Self::parameters(width)
    }

    /// Parameters that nothing is multiplied with.
    pub(super) fn parameters(count: usize) -> Self {
        Self {
            parameters: count as u64,
            macs: 0,
        }
    }

    /// Operations without parameters.
    pub(super) fn macs(factors: &[usize]) -> Self {
        Self {
            parameters: 0,
            macs: product(factors),
        }
    }
}

/// Sizes come from plugins and files: what is too large to count stays at the largest number.
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
