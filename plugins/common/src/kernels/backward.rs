//! Backward passes of what is done element by element and row by row, and the optimizer's step.

use super::{LANES, elementwise, norm::ROWS_PER_TASK, reduce};
use crate::activation::Activation;
use rayon::prelude::*;

/// Elements that one task goes through.
const TASK: usize = 16 * 1024;

/// Columns that one task sums.
const COLUMNS_PER_TASK: usize = 64;

/// `activation(x)`.
pub fn activate(x: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_mut(TASK)
        .for_each(|y| activate_part(y, activation));
    y
}

/// `activation(gate) · up`.
pub fn gated(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = gate.to_vec();
    y.par_chunks_mut(TASK)
        .zip(up.par_chunks(TASK))
        .for_each(|(y, up)| {
            activate_part(y, activation);
            multiply(y, up);
        });
    y
}

/// Multiplies `gradient`, that of `activation(x)`, by the activation's slope at `x`.
pub fn activation_backward(x: &[f32], gradient: &mut [f32], activation: Activation) {
    gradient
        .par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK))
        .for_each(|(gradient, x)| slope_part(x, gradient, activation));
}

/// The gradients of `gate` and `up` from that of [`gated`]; the first takes the place of `gradient`.
pub fn gated_backward(
    gate: &[f32],
    up: &[f32],
    gradient: &mut [f32],
    activation: Activation,
) -> Vec<f32> {
    let mut of_up = gate.to_vec();
    of_up
        .par_chunks_mut(TASK)
        .zip(gradient.par_chunks_mut(TASK))
        .zip(gate.par_chunks(TASK).zip(up.par_chunks(TASK)))
        .for_each(|((of_up, gradient), (gate, up))| {
            activate_part(of_up, activation);
            multiply(of_up, gradient);
            multiply(gradient, up);
            slope_part(gate, gradient, activation);
        });
    of_up
}

/// `into += from`.
pub fn add(into: &mut [f32], from: &[f32]) {
    into.par_chunks_mut(TASK)
        .zip(from.par_chunks(TASK))
        .for_each(|(into, from)| add_part(into, from));
}

multiversion! {
    fn add_part(into: &mut [f32], from: &[f32]) {
        for (into, from) in into.iter_mut().zip(from) {
            *into += from;
        }
    }
}

multiversion! {
    fn multiply(into: &mut [f32], by: &[f32]) {
        for (into, by) in into.iter_mut().zip(by) {
            *into *= by;
        }
    }
}

multiversion! {
    fn activate_part(y: &mut [f32], activation: Activation) {
        // A loop each: passed as a function, the activation would not be inlined.
        match activation {
            Activation::Gelu => y.iter_mut().for_each(#[inline(always)] |y| *y = elementwise::gelu(*y)),
            Activation::GeluTanh => {
                y.iter_mut().for_each(#[inline(always)] |y| *y = elementwise::gelu_tanh(*y));
            }
            Activation::QuickGelu => {
                y.iter_mut().for_each(#[inline(always)] |y| *y = elementwise::quick_gelu(*y));
            }
            Activation::Silu => y.iter_mut().for_each(#[inline(always)] |y| *y = elementwise::silu(*y)),
        }
    }
}

multiversion! {
    fn slope_part(x: &[f32], gradient: &mut [f32], activation: Activation) {
        let pairs = gradient.iter_mut().zip(x);
        match activation {
            Activation::Gelu => pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::gelu_slope(*x)),
            Activation::GeluTanh => {
                pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::gelu_tanh_slope(*x));
            }
            Activation::QuickGelu => {
                pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::quick_gelu_slope(*x));
            }
            Activation::Silu => pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::silu_slope(*x)),
        }
    }
}

/// Adds to `sums [columns]` those of `rows [.., columns]`, or of their products with `weights`, which are
/// of the same shape.
pub fn add_columns(rows: &[f32], weights: Option<&[f32]>, sums: &mut [f32]) {
    let width = sums.len();
    sums.par_chunks_mut(COLUMNS_PER_TASK)
        .enumerate()
        .for_each(|(task, sums)| {
            column_sums(rows, weights, width, task * COLUMNS_PER_TASK, sums);
        });
}

multiversion! {
    fn column_sums(rows: &[f32], weights: Option<&[f32]>, width: usize, first: usize, sums: &mut [f32]) {
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let row = &row[first..first + sums.len()];
            match weights {
                None => {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
                Some(weights) => {
                    let weights = &weights[index * width + first..][..row.len()];
                    for ((sum, x), w) in sums.iter_mut().zip(row).zip(weights) {
                        *sum = x.mul_add(*w, *sum);
                    }
                }
            }
        }
    }
}

/// Multiplies each row by `scale`.
pub fn scaled_rows(rows: &[f32], scale: &[f32]) -> Vec<f32> {
    let mut scaled = rows.to_vec();
    let width = scale.len().max(1);
    scaled
        .par_chunks_mut(width * ROWS_PER_TASK)
        .for_each(|rows| {
            rows.chunks_exact_mut(width)
                .for_each(|row| multiply(row, scale));
        });
    scaled
}

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// [`super::norm::layer_norm`]
    Layer,
    /// [`super::norm::rms_norm`]
    RootMeanSquare,
}

/// The backward pass of a norm of rows of `scale.len()` elements, from the `gradient` of its result: that
/// of `x` is written to `out`, or added to it; that of the scale, and of the shift, are returned, if they
/// are `trained`.
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
        // In order, so that the sum is the same every time.
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
            // With `n` the normalised row and `g` the gradient times the scale:
            // `factor · (g - mean(g) - n · mean(g · n))`, without the first mean in a root-mean-square norm.
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

/// The sums of `(x - mean) · gradient · scale` and of `gradient · scale`.
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

/// Cross-entropy of rows of `width` logits against their `labels`; the logits become the gradient of the
/// sum of all. Returns that sum.
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
    // In order, so that the sum is the same every time.
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

/// The numbers of [`adamw`].
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// What the gradient is multiplied by first.
    pub gradient_scale: f32,
    /// β₁
    pub beta1: f32,
    /// β₂
    pub beta2: f32,
    /// ε
    pub epsilon: f32,
    /// `1 - learning_rate · weight_decay`
    pub decay: f32,
    /// `learning_rate / (1 - β₁ᵗ)`
    pub rate: f32,
    /// `1 / √(1 - β₂ᵗ)`
    pub correction: f32,
    /// `1 - β₁` and `1 - β₂`, subtracted in double precision.
    pub shares: [f32; 2],
}

/// One step of AdamW on a parameter and its two moments.
pub fn adamw(weights: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2], step: AdamW) {
    let [first, second] = moments;
    weights
        .par_chunks_mut(TASK)
        .zip(gradient.par_chunks(TASK))
        .zip(first.par_chunks_mut(TASK).zip(second.par_chunks_mut(TASK)))
        .for_each(|((w, g), (m, v))| adamw_part(w, g, m, v, step));
}

multiversion! {
    fn adamw_part(weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], step: AdamW) {
        let state = first.iter_mut().zip(second);
        for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(state) {
            let g = g * step.gradient_scale;
            *m = step.beta1.mul_add(*m, step.shares[0] * g);
            *v = step.beta2.mul_add(*v, step.shares[1] * g * g);
            *w = *w * step.decay - step.rate * *m / v.sqrt().mul_add(step.correction, step.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::norm::{layer_norm, rms_norm};

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    }

    /// The slope of `value` when the element `at` of `input` moves.
    fn slope(input: &[f32], at: usize, value: impl Fn(&[f32]) -> f64) -> f64 {
        const STEP: f32 = 1e-2;
        let moved = |by: f32| {
            let mut input = input.to_vec();
            input[at] += by;
            value(&input)
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP))
    }

    fn assert_slope(what: &str, found: f32, expected: f64) {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error < 2e-3 * (1.0 + expected.abs()),
            "{what}: {found} is not {expected}"
        );
    }

    #[test]
    fn norms_have_the_slope_of_their_forward_pass() {
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

    #[test]
    fn activations_have_the_slope_of_their_forward_pass() {
        let (x, up, weights) = (numbers(997, 1), numbers(997, 2), numbers(997, 3));
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Silu,
        ] {
            let mut plain = weights.clone();
            activation_backward(&x, &mut plain, activation);
            let mut of_gate = weights.clone();
            let of_up = gated_backward(&x, &up, &mut of_gate, activation);
            for at in (0..997).step_by(83) {
                let value = |x: &[f32]| dot(&activate(x, activation), &weights);
                assert_slope("activation", plain[at], slope(&x, at, value));
                let value = |x: &[f32]| dot(&gated(x, &up, activation), &weights);
                assert_slope("gate", of_gate[at], slope(&x, at, value));
                let value = |up: &[f32]| dot(&gated(&x, up, activation), &weights);
                assert_slope("up", of_up[at], slope(&up, at, value));
            }
        }
    }

    #[test]
    fn cross_entropy_has_the_slope_of_its_sum() {
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

    #[test]
    fn columns_are_summed() {
        let (rows, width) = (70, 130);
        let (x, y) = (numbers(rows * width, 1), numbers(rows * width, 2));
        let before = numbers(width, 3);
        for weights in [None, Some(y.as_slice())] {
            let mut sums = before.clone();
            add_columns(&x, weights, &mut sums);
            for (column, sum) in sums.iter().enumerate() {
                let expected: f64 = (0..rows)
                    .map(|row| row * width + column)
                    .map(|at| f64::from(x[at]) * weights.map_or(1.0, |w| f64::from(w[at])))
                    .sum();
                let expected = expected + f64::from(before[column]);
                assert!(
                    (f64::from(*sum) - expected).abs() < 1e-4,
                    "{column}: {sum}, {expected}"
                );
            }
        }
    }
}
