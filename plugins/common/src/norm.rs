//! Normalisation layers.

use crate::{
    Result,
    kernels::norm,
    tensor::{from_vec, rows, with_slice},
    weights::Scope,
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// Layer normalisation over the last dimension (arXiv 1607.06450; `torch.nn.LayerNorm`).
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Takes `weight` and `bias` from `scope`.
    pub fn new(width: usize, epsilon: f64, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.vector("weight", &[width]),
            bias: scope.vector("bias", &[width]),
            epsilon: epsilon as f32,
        }
    }

    /// # Shapes
    ///
    /// `[.., width]` → the same
    ///
    /// # Errors
    ///
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check(x, self.weight.len())?;
        let y = with_slice(x, |x| {
            Ok(norm::layer_norm(x, &self.weight, &self.bias, self.epsilon))
        })?;
        from_vec(y, x.dims())
    }
}

/// Root-mean-square normalisation over the last dimension (arXiv 1910.07467; `LlamaRMSNorm`).
pub struct RmsNorm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// Takes `weight` from `scope`.
    pub fn new(width: usize, epsilon: f64, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.vector("weight", &[width]),
            epsilon: epsilon as f32,
        }
    }

    /// # Shapes
    ///
    /// `[.., width]` → the same
    ///
    /// # Errors
    ///
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check(x, self.weight.len())?;
        let y = with_slice(x, |x| Ok(norm::rms_norm(x, &self.weight, self.epsilon)))?;
        from_vec(y, x.dims())
    }
}

fn check(x: &Tensor, width: usize) -> Result<()> {
    if rows(x)?.1 == width {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "a norm of width {width} was given {:?}",
        x.dims()
    )))
}
