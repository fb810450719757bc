//! Normalisation of rows.

use super::reduce;
use pulp::Arch;
use rayon::prelude::*;

/// Rows that one task normalises.
const ROWS_PER_TASK: usize = 32;

/// Layer normalisation (arXiv 1607.06450; `torch.nn.functional.layer_norm`) of rows of
/// `scale.len()` elements.
pub fn layer_norm(x: &[f32], scale: &[f32], shift: &[f32], epsilon: f32) -> Vec<f32> {
    rowwise(x, scale.len(), |input, output| {
        let count = input.len() as f32;
        let mean = reduce(input, input, |sum, v, _| sum + v) / count;
        let variance = reduce(input, input, |sum, v, _| {
            let d = v - mean;
            d.mul_add(d, sum)
        }) / count;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for (((out, &v), &s), &b) in output.iter_mut().zip(input).zip(scale).zip(shift) {
            *out = ((v - mean) * factor).mul_add(s, b);
        }
    })
}

/// Root-mean-square normalisation (arXiv 1910.07467; Hugging Face's `LlamaRMSNorm`) of rows of
/// `scale.len()` elements.
pub fn rms_norm(x: &[f32], scale: &[f32], epsilon: f32) -> Vec<f32> {
    rowwise(x, scale.len(), |input, output| {
        let squares = reduce(input, input, |sum, v, _| v.mul_add(v, sum));
        let factor = 1.0 / (squares / input.len() as f32 + epsilon).sqrt();
        for ((out, &v), &s) in output.iter_mut().zip(input).zip(scale) {
            *out = v * factor * s;
        }
    })
}

fn rowwise(x: &[f32], width: usize, row: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut output = vec![0.0; x.len()];
    if width == 0 {
        return output;
    }
    let arch = Arch::new();
    output.par_chunks_mut(width * ROWS_PER_TASK).zip(x.par_chunks(width * ROWS_PER_TASK)).for_each(
        |(out, input)| {
            arch.dispatch(
                #[inline(always)]
                || {
                    for (o, i) in out.chunks_exact_mut(width).zip(input.chunks_exact(width)) {
                        row(i, o);
                    }
                },
            );
        },
    );
    output
}
