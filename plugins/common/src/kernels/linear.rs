//! `x · Wᵀ` and its epilogue, in one pass.

use super::{
    elements::Elements,
    epilogue::{Epilogue, apply},
    product::product,
    reduce::reduce,
};
use crate::precision::Precision;
use rayon::prelude::*;

/// With up to this many rows, each weight row is read once and multiplied with all of them. The time of such
/// a product is that of reading the weights, and a blocked product would have to pack them first. The result
/// of a row does not depend on the other rows, to the last bit.
pub const FEW_ROWS: usize = 4;

/// Weight rows that one task of the few-rows product processes.
const WEIGHT_ROWS_PER_TASK: usize = 32;

/// Returns `x [rows, inputs] · weight [outputs, inputs]ᵀ` as `[rows, outputs]`, with `epilogue` applied. Up
/// to [`FEW_ROWS`] rows are multiplied in `f32` regardless of `precision`, because reading the weights takes
/// most of the time.
///
/// The caller must check the lengths.
pub fn linear(
    x: &[f32],
    weight: Elements<'_>,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue<'_>,
    precision: Precision,
) -> Vec<f32> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    assert_eq!(
        weight.len(),
        inputs * outputs,
        "the size of a weight matrix differs from that of its layer"
    );
    if rows > FEW_ROWS {
        return product(x, weight, inputs, outputs, epilogue, precision);
    }
    let mut y = vec![0.0; rows * outputs];
    if !y.is_empty() {
        few_rows(x, weight, inputs, outputs, &mut y);
        for (row, y) in y.chunks_exact_mut(outputs).enumerate() {
            apply(y, 0, row * outputs, epilogue);
        }
    }
    y
}

/// Multiplies each weight row with all rows of `x`.
fn few_rows(x: &[f32], weight: Elements<'_>, inputs: usize, outputs: usize, y: &mut [f32]) {
    let rows = x.len() / inputs;
    // `[outputs, rows]`, so that each task writes a contiguous part.
    let mut transposed = vec![0.0f32; y.len()];
    transposed
        .par_chunks_mut(WEIGHT_ROWS_PER_TASK * rows)
        .enumerate()
        .for_each(|(task, out)| {
            let first = task * WEIGHT_ROWS_PER_TASK;
            let count = out.len() / rows;
            let mut scratch = Vec::new();
            // One row at a time: the converted weights stay in the first-level cache.
            for (row, out) in (first..first + count).zip(out.chunks_exact_mut(rows)) {
                let row = weight.slice(row * inputs..(row + 1) * inputs);
                dots(x, row.to_f32(&mut scratch), inputs, out);
            }
        });
    for (output, column) in transposed.chunks_exact(rows).enumerate() {
        for (row, &value) in column.iter().enumerate() {
            y[row * outputs + output] = value;
        }
    }
}

multiversion! {
    /// Computes the products of every row of `weights` with every row of `x`: `[weight rows, x rows]`.
    fn dots(x: &[f32], weights: &[f32], inputs: usize, out: &mut [f32]) {
        let rows = x.len() / inputs;
        for (w, out) in weights.chunks_exact(inputs).zip(out.chunks_exact_mut(rows)) {
            for (row, out) in x.chunks_exact(inputs).zip(out) {
                *out = reduce(row, w, #[inline(always)] |sum, a, b| a.mul_add(b, sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Activation, kernels::numbers::numbers};
    use half::f16;

    /// The definition, in `f64`.
    fn naive(x: &[f32], w: &[f32], k: usize, n: usize, e: Epilogue<'_>) -> Vec<f64> {
        let mut y = Vec::new();
        for (r, row) in x.chunks(k).enumerate() {
            for (c, column) in w.chunks(k).enumerate() {
                let dot: f64 = row
                    .iter()
                    .zip(column)
                    .map(|(&a, &b)| f64::from(a) * f64::from(b))
                    .sum();
                let mut v = dot + e.bias.map_or(0.0, |b| f64::from(b[c]));
                if e.activation == Some(Activation::Gelu) {
                    v = 0.5 * v * (1.0 + libm::erf(v / std::f64::consts::SQRT_2));
                }
                v *= e.scale.map_or(1.0, |s| f64::from(s[c]));
                y.push(v + e.residual.map_or(0.0, |m| f64::from(m[r * n + c])));
            }
        }
        y
    }

    #[test]
    fn every_path_agrees_with_the_definition() {
        for (rows, k, n) in [
            (1, 7, 5),
            (3, 64, 33),
            (5, 48, 17),
            (300, 96, 700),
            (40, 600, 70),
            (900, 33, 600),
        ] {
            let x = numbers(rows * k, 1);
            let w = numbers(n * k, 2);
            let half: Vec<f16> = w.iter().map(|&v| f16::from_f32(v)).collect();
            let rounded: Vec<f32> = half.iter().map(|v| v.to_f32()).collect();
            let (bias, scale, residual) = (numbers(n, 3), numbers(n, 4), numbers(rows * n, 5));
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Some(Activation::Gelu),
                scale: Some(&scale),
                residual: Some(&residual),
            };
            for (elements, plain) in [(Elements::F32(&w), &w), (Elements::F16(&half), &rounded)] {
                for epilogue in [Epilogue::default(), epilogue] {
                    let found = linear(&x, elements, k, n, epilogue, Precision::F32);
                    let expected = naive(&x, plain, k, n, epilogue);
                    let worst = found
                        .iter()
                        .zip(&expected)
                        .map(|(&f, &e)| (f64::from(f) - e).abs())
                        .fold(0.0, f64::max);
                    let scale = expected.iter().fold(1.0f64, |scale, e| scale.max(e.abs()));
                    assert!(worst < 2e-6 * scale, "{rows}x{k}x{n}: {worst:e} of {scale}");
                }
            }
        }
    }
}
