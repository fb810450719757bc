//! The softmax of rows.

use super::{
    elementwise::exp,
    reduce::{LANES, reduce},
};

multiversion! {
    /// Replaces each row of `width` elements by its softmax. If `causal`, the last row uses all of its
    /// elements and each earlier row uses one less than the row after it. The unused elements become 0.
    pub fn softmax_rows(rows: &mut [f32], width: usize, causal: bool) {
        let count = rows.len() / width;
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            let seen = if causal { width - (count - 1 - index) } else { width };
            let (seen, hidden) = row.split_at_mut(seen);
            softmax(seen);
            hidden.fill(0.0);
        }
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            highest[lane] = if chunk[lane] > highest[lane] {
                chunk[lane]
            } else {
                highest[lane]
            };
        }
    }
    let max = highest
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - max);
            sums[lane] += chunk[lane];
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for value in rest {
        *value = exp(*value - max);
        sum += *value;
    }
    let scale = 1.0 / sum;
    for value in row {
        *value *= scale;
    }
}

multiversion! {
    /// The backward pass of [`softmax_rows`]: replaces each row of `gradients`, which are those of the
    /// probabilities, by the gradients of the scores. Where a probability is 0, the result is 0.
    pub fn softmax_backward(probabilities: &[f32], gradients: &mut [f32], width: usize) {
        let rows = probabilities.chunks_exact(width).zip(gradients.chunks_exact_mut(width));
        for (probabilities, gradients) in rows {
            let mean = reduce(probabilities, gradients, #[inline(always)] |sum, p, g| p.mul_add(g, sum));
            for (p, g) in probabilities.iter().zip(gradients) {
                *g = p * (*g - mean);
            }
        }
    }
}
