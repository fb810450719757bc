//! Normalisation of rows.

use super::reduce;
use rayon::prelude::*;

/// Rows that one task normalises.
pub(super) const ROWS_PER_TASK: usize = 32;

/// Layer normalisation (arXiv 1607.06450; `torch.nn.functional.layer_norm`) of rows of
/// `scale.len()` elements.
pub fn layer_norm(x: &[f32], scale: &[f32], shift: &[f32], epsilon: f32) -> Vec<f32> {
    in_tasks(x, scale.len(), |input, output| {
        layer_norm_rows(input, scale, shift, epsilon, output)
    })
}

/// Root-mean-square normalisation (arXiv 1910.07467; Hugging Face's `LlamaRMSNorm`) of rows of
/// `scale.len()` elements.
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
