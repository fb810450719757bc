//! The cross-entropy of logits, with its gradient.

use super::{elementwise, reduce::LANES};
use rayon::prelude::*;

/// Returns the summed cross-entropy of rows of `width` logits against their `labels`, and replaces the logits
/// by the gradient of that sum.
pub fn cross_entropy(logits: &mut [f32], width: usize, labels: &[u32]) -> f64 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(width.max(1))
        .zip(labels)
        .map(|(row, &label)| {
            let mut loss = 0.0;
            cross_entropy_row(row, label as usize, &mut loss);
            loss
        })
        .collect();
    // Summed in order, so that the result is the same in every run.
    losses.iter().sum()
}

multiversion! {
    fn cross_entropy_row(row: &mut [f32], label: usize, loss: &mut f64) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let right = row[label] - max;
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                chunk[lane] = elementwise::exp(chunk[lane] - max);
                sums[lane] += chunk[lane];
            }
        }
        let mut sum: f32 = sums.iter().sum();
        for value in rest {
            *value = elementwise::exp(*value - max);
            sum += *value;
        }
        *loss = f64::from(sum).ln() - f64::from(right);
        let factor = 1.0 / sum;
        for value in row.iter_mut() {
            *value *= factor;
        }
        row[label] -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        numbers::numbers,
        slopes::{assert_slope, slope},
    };

    #[test]
    fn the_gradient_of_cross_entropy_matches_finite_differences() {
        let (width, labels) = (37, [0, 36, 5]);
        let logits = numbers(3 * width, 1);
        let value = |logits: &[f32]| cross_entropy(&mut logits.to_vec(), width, &labels);
        let mut found = logits.clone();
        let sum = cross_entropy(&mut found, width, &labels);
        let expected: f64 = logits
            .chunks(width)
            .zip(labels)
            .map(|(row, label)| {
                let all: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                all.ln() - f64::from(row[label as usize])
            })
            .sum();
        assert!((sum - expected).abs() < 1e-5, "{sum} is not {expected}");
        for at in [0, 1, 36, 37, 73, 79, 110] {
            assert_slope("logit", found[at], slope(&logits, at, value));
        }
    }
}
