//! Norms, in `f32`.

use crate::{failure::Result, weights::Scope};
use tch::Tensor;

/// `torch.nn.LayerNorm` (arXiv 1607.06450).
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// Takes `weight` and `bias` from `scope`.
    pub fn new(width: usize, epsilon: f64, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.vector("weight", &[width]),
            bias: scope.vector("bias", &[width]),
            epsilon,
        }
    }

    /// `[…, width]` → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(self.weight.kind())?;
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        Ok(x.f_layer_norm(self.weight.size(), weight, bias, self.epsilon, false)?)
    }
}

/// `torch.nn.RMSNorm` (arXiv 1910.07467).
pub struct RmsNorm {
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    /// Takes `weight` from `scope`.
    pub fn new(width: usize, epsilon: f64, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.vector("weight", &[width]),
            epsilon,
        }
    }

    /// `[…, width]` → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), self.epsilon)?)
    }
}
