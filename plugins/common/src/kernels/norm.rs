//! Normalisation of rows, forward and backward.

use super::{
    reduce::{LANES, reduce},
    rows::{ROWS_PER_TASK, add_part},
};
use rayon::prelude::*;

/// Layer normalisation of rows of `scale.len()` elements (arXiv 1607.06450;
/// `torch.nn.functional.layer_norm`).
pub fn layer_norm(x: &[f32], scale: &[f32], shift: &[f32], epsilon: f32) -> Vec<f32> {
    in_tasks(x, scale.len(), |input, output| {
        layer_norm_rows(input, scale, shift, epsilon, output)
    })
}

/// Root-mean-square normalisation of rows of `scale.len()` elements (arXiv 1910.07467; Hugging Face's
/// `LlamaRMSNorm`).
pub fn rms_norm(x: &[f32], scale: &[f32], epsilon: f32) -> Vec<f32> {
    in_tasks(x, scale.len(), |input, output| {
        rms_norm_rows(input, scale, epsilon, output)
    })
}

fn in_tasks(x: &[f32], width: usize, rows: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut output = vec![0.0; x.len()];
    if width > 0 {
        let task = width * ROWS_PER_TASK;
        output
            .par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .for_each(|(out, x)| rows(x, out));
    }
    output
}

multiversion! {
    fn layer_norm_rows(x: &[f32], scale: &[f32], shift: &[f32], epsilon: f32, output: &mut [f32]) {
        let width = scale.len();
        for (x, out) in x.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            let mean = reduce(x, x, #[inline(always)] |sum, v, _| sum + v) / width as f32;
            let squares = reduce(x, x, #[inline(always)] |sum, v, _| {
                let d = v - mean;
                d.mul_add(d, sum)
            });
            let factor = 1.0 / (squares / width as f32 + epsilon).sqrt();
            for (((out, &v), &s), &b) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                *out = ((v - mean) * factor).mul_add(s, b);
            }
        }
    }
}

multiversion! {
    fn rms_norm_rows(x: &[f32], scale: &[f32], epsilon: f32, output: &mut [f32]) {
        let width = scale.len();
        for (x, out) in x.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            let squares = reduce(x, x, #[inline(always)] |sum, v, _| v.mul_add(v, sum));
            let factor = 1.0 / (squares / width as f32 + epsilon).sqrt();
            for ((out, &v), &s) in out.iter_mut().zip(x).zip(scale) {
                *out = v * factor * s;
            }
        }
    }
}

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// [`layer_norm`]
    Layer,
    /// [`rms_norm`]
    RootMeanSquare,
}

/// The backward pass of a norm of rows of `scale.len()` elements, from the `gradient` of its result.
///
/// The gradient of `x` is written to `out`, or added to it if `added`. The gradients of the scale and the
/// shift are returned if these are `trained`.
pub fn norm_backward(
    norm: Norm,
    (x, scale, epsilon): (&[f32], &[f32], f32),
    gradient: &[f32],
    (out, added): (&mut [f32], bool),
    trained: bool,
) -> Option<[Vec<f32>; 2]> {
    let width = scale.len().max(1);
    let task = width * ROWS_PER_TASK;
    let parts: Vec<[Vec<f32>; 2]> = out
        .par_chunks_mut(task)
        .zip(x.par_chunks(task).zip(gradient.par_chunks(task)))
        .map(|(out, (x, gradient))| {
            let count = if trained { width } else { 0 };
            let [mut scales, mut shifts] = [0, 1].map(|_| vec![0.0; count]);
            let sums = [scales.as_mut_slice(), shifts.as_mut_slice()];
            norm_rows(norm, (x, scale, epsilon), gradient, out, added, sums);
            [scales, shifts]
        })
        .collect();
    trained.then(|| {
        // Summed in order, so that the result is the same in every run.
        let mut sums = [0, 1].map(|_| vec![0.0; width]);
        for part in &parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                add_part(sum, part);
            }
        }
        sums
    })
}

multiversion! {
    fn norm_rows(
        norm: Norm,
        of: (&[f32], &[f32], f32),
        gradient: &[f32],
        out: &mut [f32],
        added: bool,
        sums: [&mut [f32]; 2],
    ) {
        let (x, scale, epsilon) = of;
        let width = scale.len();
        let [scales, shifts] = sums;
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((x, gradient), out) in rows.zip(out.chunks_exact_mut(width)) {
            let count = width as f32;
            let mean = match norm {
                Norm::Layer => reduce(x, x, #[inline(always)] |sum, v, _| sum + v) / count,
                Norm::RootMeanSquare => 0.0,
            };
            let squares = reduce(x, x, #[inline(always)] |sum, v, _| {
                let d = v - mean;
                d.mul_add(d, sum)
            });
            let factor = 1.0 / (squares / count + epsilon).sqrt();
            // The gradient of `x` is `factor · (g - mean(g) - n · mean(g · n))`, where `n` is the normalised row and
            // `g` the gradient times the scale. A root-mean-square norm has no `mean(g)`.
            let [along, sum] = reduce_three(x, gradient, scale, mean);
            let along = along * factor / count;
            let sum = if norm == Norm::Layer { sum / count } else { 0.0 };
            let values = x.iter().zip(gradient).zip(scale);
            if added {
                for (out, ((x, g), s)) in out.iter_mut().zip(values) {
                    *out += factor * (g.mul_add(*s, -sum) - (x - mean) * factor * along);
                }
            } else {
                for (out, ((x, g), s)) in out.iter_mut().zip(values) {
                    *out = factor * (g.mul_add(*s, -sum) - (x - mean) * factor * along);
                }
            }
            for ((sum, x), g) in scales.iter_mut().zip(x).zip(gradient) {
                *sum += (x - mean) * factor * g;
            }
            for (sum, g) in shifts.iter_mut().zip(gradient) {
                *sum += g;
            }
        }
    }
}

/// Returns the sums of `(x - mean) · gradient · scale` and of `gradient · scale`.
#[inline(always)]
fn reduce_three(x: &[f32], gradient: &[f32], scale: &[f32], mean: f32) -> [f32; 2] {
    let (mut along, mut sum) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (g, g_rest) = gradient.as_chunks::<LANES>();
    let (s, s_rest) = scale.as_chunks::<LANES>();
    for ((x, g), s) in x.iter().zip(g).zip(s) {
        for lane in 0..LANES {
            let scaled = g[lane] * s[lane];
            along[lane] = (x[lane] - mean).mul_add(scaled, along[lane]);
            sum[lane] += scaled;
        }
    }
    let mut totals = [along.iter().sum::<f32>(), sum.iter().sum()];
    for ((x, g), s) in x_rest.iter().zip(g_rest).zip(s_rest) {
        totals[0] += (x - mean) * g * s;
        totals[1] += g * s;
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        numbers::numbers,
        slopes::{assert_slope, dot, slope},
    };

    #[test]
    fn norm_gradients_match_finite_differences() {
        let width = 37;
        let (x, scale, shift) = (numbers(40 * width, 1), numbers(width, 2), numbers(width, 3));
        let weights = numbers(x.len(), 4);
        for norm in [Norm::Layer, Norm::RootMeanSquare] {
            let value = |x: &[f32], scale: &[f32], shift: &[f32]| match norm {
                Norm::Layer => dot(&layer_norm(x, scale, shift, 0.1), &weights),
                Norm::RootMeanSquare => dot(&rms_norm(x, scale, 0.1), &weights),
            };
            let before = numbers(x.len(), 5);
            let mut out = before.clone();
            let sums = norm_backward(norm, (&x, &scale, 0.1), &weights, (&mut out, true), true);
            let [scales, shifts] = sums.unwrap();
            let mut fresh = vec![f32::NAN; x.len()];
            norm_backward(
                norm,
                (&x, &scale, 0.1),
                &weights,
                (&mut fresh, false),
                false,
            );
            for at in [0, 36, 700, x.len() - 1] {
                let expected = slope(&x, at, |x| value(x, &scale, &shift));
                assert_slope("x", fresh[at], expected);
                assert_slope("x, added", out[at] - before[at], expected);
            }
            for at in [0, 17, 36] {
                assert_slope(
                    "scale",
                    scales[at],
                    slope(&scale, at, |s| value(&x, s, &shift)),
                );
                if norm == Norm::Layer {
                    assert_slope(
                        "shift",
                        shifts[at],
                        slope(&shift, at, |s| value(&x, &scale, s)),
                    );
                }
            }
        }
    }
}
