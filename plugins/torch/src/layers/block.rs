//! The pre-norm transformer block (arXiv 2010.11929).

use super::{attention::SelfAttention, mlp::Mlp, norm::LayerNorm};
use crate::failure::Result;
use tch::Tensor;

/// `x + s₁·attention(norm₁(x))`, then `x + s₂·mlp(norm₂(x))`: timm's `Block`, Hugging Face's `CLIPEncoderLayer` and
/// `VivitLayer`.
pub struct Block {
    pub norm1: LayerNorm,
    pub attention: SelfAttention,
    /// The LayerScale of the attention branch (arXiv 2103.17239).
    pub scale1: Option<Tensor>,
    pub norm2: LayerNorm,
    pub mlp: Mlp,
    pub scale2: Option<Tensor>,
}

impl Block {
    /// `[batch, length, width]` → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let branch = self.attention.forward(&self.norm1.forward(x)?)?;
        let x = added(x, &branch, self.scale1.as_ref())?;
        let branch = self.mlp.forward(&self.norm2.forward(&x)?)?;
        added(&x, &branch, self.scale2.as_ref())
    }
}

/// `x + scale·branch`
fn added(x: &Tensor, branch: &Tensor, scale: Option<&Tensor>) -> Result<Tensor> {
    Ok(match scale {
        Some(scale) => x.f_add(&branch.f_mul(scale)?)?,
        None => x.f_add(branch)?,
    })
}
