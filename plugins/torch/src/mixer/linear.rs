//! Linear layers and norms of the mixer.

use super::scope::Scope;
use crate::{failure::Result, layers::Linear};
use merv_architectures::mixer::Init;
use tch::Tensor;

/// The epsilon of every norm of the mixer, the default of PyTorch.
const EPSILON: f64 = 1e-5;

/// Takes `weight` and `bias` of a linear layer.
pub fn linear(inputs: usize, outputs: usize, scope: &Scope<'_>) -> Result<Linear> {
    let [weight, bias] = scope.linear(inputs);
    let weight = scope.matrix("weight", &[outputs, inputs], weight)?;
    let bias = scope.matrix("bias", &[outputs], bias)?;
    Ok(Linear::from_parts(&weight, Some(bias)))
}

/// A norm over the last dimension (arXiv 1607.06450).
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Takes `weight` and `bias`.
    pub fn new(width: usize, scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            weight: scope.vector("weight", &[width], Init::Ones)?,
            bias: scope.vector("bias", &[width], Init::Zeros)?,
        })
    }

    /// `[…, width]` → the same, in `f32`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(self.weight.kind())?;
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        Ok(x.f_layer_norm(self.weight.size(), weight, bias, EPSILON, false)?)
    }
}
