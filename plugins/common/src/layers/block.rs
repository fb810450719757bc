//! The pre-norm transformer block (arXiv 2010.11929).

use crate::{
    Result,
    gradients::Parameter,
    layers::{
        attention::{SelfAttention, Sequences},
        mlp::Mlp,
        norm::LayerNorm,
    },
};
use candle_core::Tensor;

/// `x + s₁·attention(norm₁(x))`, then `x + s₂·mlp(norm₂(x))`: timm's `Block`, Hugging Face's
/// `CLIPEncoderLayer` and `VivitLayer`.
pub struct Block {
    /// The norm before the attention.
    pub norm1: LayerNorm,
    /// The attention.
    pub attention: SelfAttention,
    /// The LayerScale of the attention branch (arXiv 2103.17239).
    pub scale1: Option<Parameter>,
    /// The norm before the perceptron.
    pub norm2: LayerNorm,
    /// The perceptron.
    pub mlp: Mlp,
    /// The LayerScale of the perceptron branch.
    pub scale2: Option<Parameter>,
}

impl Block {
    /// # Shapes
    ///
    /// `[batch · length, width]`, with consecutive sequences → the same shape
    ///
    /// # Errors
    ///
    /// When a shape does not fit.
    pub fn forward(&self, x: &Tensor, batch: usize, length: usize) -> Result<Tensor> {
        let sequences = Sequences::consecutive(batch, length);
        let attended = self.attention.attend(&self.norm1.forward(x)?, sequences)?;
        let x = self
            .attention
            .project_added(&attended, x, self.scale1.as_ref())?;
        self.mlp
            .forward_added(&self.norm2.forward(&x)?, &x, self.scale2.as_ref())
    }
}
