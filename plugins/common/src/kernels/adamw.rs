//! One step of AdamW.

use super::rows::ELEMENTS_PER_TASK;
use rayon::prelude::*;

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
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(gradient.par_chunks(ELEMENTS_PER_TASK))
        .zip(
            first
                .par_chunks_mut(ELEMENTS_PER_TASK)
                .zip(second.par_chunks_mut(ELEMENTS_PER_TASK)),
        )
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
