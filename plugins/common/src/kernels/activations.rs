//! Activations and gated activations of whole rows, forward and backward.

use super::{
    elementwise,
    rows::{ELEMENTS_PER_TASK, multiply},
};
use crate::activation::Activation;
use rayon::prelude::*;

/// Returns `activation(x)`.
pub fn activate(x: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_mut(ELEMENTS_PER_TASK)
        .for_each(|y| activate_part(y, activation));
    y
}

/// Returns `activation(gate) · up`.
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

/// Multiplies `gradient`, the gradient of `activation(x)`, by the derivative of the activation at `x`.
pub fn activation_backward(x: &[f32], gradient: &mut [f32], activation: Activation) {
    gradient
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(x.par_chunks(ELEMENTS_PER_TASK))
        .for_each(|(gradient, x)| derivative_part(x, gradient, activation));
}

/// Turns `gradient`, the gradient of [`gated`], into the gradient of `gate`, and returns the gradient of
/// `up`.
pub fn gated_backward(
    gate: &[f32],
    up: &[f32],
    gradient: &mut [f32],
    activation: Activation,
) -> Vec<f32> {
    let mut up_gradient = gate.to_vec();
    up_gradient
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(gradient.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(
            gate.par_chunks(ELEMENTS_PER_TASK)
                .zip(up.par_chunks(ELEMENTS_PER_TASK)),
        )
        .for_each(|((up_gradient, gradient), (gate, up))| {
            activate_part(up_gradient, activation);
            multiply(up_gradient, gradient);
            multiply(gradient, up);
            derivative_part(gate, gradient, activation);
        });
    up_gradient
}

multiversion! {
    fn activate_part(y: &mut [f32], activation: Activation) {
        // One loop for each activation: a function that is passed as an argument would not be inlined.
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
    fn derivative_part(x: &[f32], gradient: &mut [f32], activation: Activation) {
        let pairs = gradient.iter_mut().zip(x);
        match activation {
            Activation::Gelu => pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::gelu_derivative(*x)),
            Activation::GeluTanh => {
                pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::gelu_tanh_derivative(*x));
            }
            Activation::QuickGelu => {
                pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::quick_gelu_derivative(*x));
            }
            Activation::Silu => pairs.for_each(#[inline(always)] |(g, x)| *g *= elementwise::silu_derivative(*x)),
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
    fn activation_gradients_match_finite_differences() {
        let (x, up, weights) = (numbers(997, 1), numbers(997, 2), numbers(997, 3));
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Silu,
        ] {
            let mut plain = weights.clone();
            activation_backward(&x, &mut plain, activation);
            let mut gate_gradient = weights.clone();
            let up_gradient = gated_backward(&x, &up, &mut gate_gradient, activation);
            for at in (0..997).step_by(83) {
                let value = |x: &[f32]| dot(&activate(x, activation), &weights);
                assert_slope("activation", plain[at], slope(&x, at, value));
                let value = |x: &[f32]| dot(&gated(x, &up, activation), &weights);
                assert_slope("gate", gate_gradient[at], slope(&x, at, value));
                let value = |up: &[f32]| dot(&gated(&x, up, activation), &weights);
                assert_slope("up", up_gradient[at], slope(&up, at, value));
            }
        }
    }
}
