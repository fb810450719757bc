//! Activations and gated activations of whole rows, forward and backward.

use super::{
    elementwise,
    rows::{ELEMENTS_PER_TASK, multiply},
};
use crate::activation::Activation;
use rayon::prelude::*;

/// `activation(x)`.
pub fn activate(x: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_mut(ELEMENTS_PER_TASK)
        .for_each(|y| activate_part(y, activation));
    y
}

/// `activation(gate) · up`.
pub fn gated(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = gate.to_vec();
    y.par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(up.par_chunks(ELEMENTS_PER_TASK))
        .for_each(|(y, up)| {
            activate_part(y, activation);
            multiply(y, up);
        });
    y
}

/// Multiplies `gradient`, that of `activation(x)`, by the activation's slope at `x`.
pub fn activation_backward(x: &[f32], gradient: &mut [f32], activation: Activation) {
    gradient
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(x.par_chunks(ELEMENTS_PER_TASK))
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
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(gradient.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(
            gate.par_chunks(ELEMENTS_PER_TASK)
                .zip(up.par_chunks(ELEMENTS_PER_TASK)),
        )
        .for_each(|((of_up, gradient), (gate, up))| {
            activate_part(of_up, activation);
            multiply(of_up, gradient);
            multiply(gradient, up);
            slope_part(gate, gradient, activation);
        });
    of_up
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        numbers::numbers,
        slopes::{assert_slope, dot, slope},
    };

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
}
