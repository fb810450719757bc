//! The two-layer perceptron of a transformer block.

use super::linear::Linear;
use crate::{failure::Result, weights::Scope};
use merv_architectures::activation::Activation;
use tch::Tensor;

/// Applies an activation to every element.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    Ok(match activation {
        Activation::Gelu => x.f_gelu("none")?,
        Activation::GeluTanh => x.f_gelu("tanh")?,
        Activation::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
        Activation::Silu => x.f_silu()?,
    })
}

/// `fc2(activation(fc1(x)))`: timm's `Mlp`, Hugging Face's `CLIPMLP`.
pub struct Mlp {
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    /// Makes a perceptron of its layers.
    pub fn from_parts(up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            up,
            down,
            activation,
        }
    }

    /// Takes `fc1` and `fc2` from `scope`.
    pub fn new(width: usize, hidden: usize, activation: Activation, scope: &Scope<'_>) -> Self {
        Self {
            up: Linear::new(width, hidden, true, &scope.pp("fc1")),
            down: Linear::new(hidden, width, true, &scope.pp("fc2")),
            activation,
        }
    }

    /// `[…, width]` → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down
            .forward(&activate(&self.up.forward(x)?, self.activation)?)
    }
}
