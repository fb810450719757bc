//! Attention (arXiv 1706.03762), with libtorch's fused kernels.

use super::linear::Linear;
use crate::{failure::Result, tensor::size};
use tch::Tensor;

/// Attention of queries `[batch, heads, queries, head_dim]` to keys and values `[batch, heads, keys, head_dim]`. Fewer heads of
/// keys are shared by equal groups of queries. `mask` says which keys a query may read.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let shared = q.size().get(1) != k.size().get(1);
    let none = None::<f64>;
    Ok(Tensor::f_scaled_dot_product_attention(
        q, k, v, mask, 0.0, false, none, shared,
    )?)
}

/// `[batch, length, heads · head_dim]` → `[batch, heads, length, head_dim]`
pub fn heads(x: &Tensor, heads: i64) -> Result<Tensor> {
    let (batch, length, width) = x.size3()?;
    let x = x.f_view([batch, length, heads, width / heads.max(1)])?;
    Ok(x.f_transpose(1, 2)?)
}

enum Projections {
    /// Queries, keys and values in one layer.
    Fused(Linear),
    Separate([Linear; 3]),
}

/// The attention of every token of a sequence to all others.
pub struct SelfAttention {
    projections: Projections,
    output: Linear,
    heads: i64,
}

impl SelfAttention {
    /// timm's attention, with one layer for queries, keys and values.
    pub fn fused(qkv: Linear, output: Linear, heads: usize) -> Self {
        Self {
            projections: Projections::Fused(qkv),
            output,
            heads: size(heads),
        }
    }

    /// Hugging Face's attention, with a layer for each.
    pub fn separate(qkv: [Linear; 3], output: Linear, heads: usize) -> Self {
        Self {
            projections: Projections::Separate(qkv),
            output,
            heads: size(heads),
        }
    }

    /// `[batch, length, width]` → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [q, k, v] = match &self.projections {
            Projections::Fused(qkv) => {
                let (batch, length, width) = x.size3()?;
                let shape = [batch, length, 3, self.heads, width / self.heads.max(1)];
                let qkv = qkv.forward(x)?.f_view(shape)?.f_permute([2, 0, 3, 1, 4])?;
                [qkv.f_get(0)?, qkv.f_get(1)?, qkv.f_get(2)?]
            }
            Projections::Separate([q, k, v]) => [
                heads(&q.forward(x)?, self.heads)?,
                heads(&k.forward(x)?, self.heads)?,
                heads(&v.forward(x)?, self.heads)?,
            ],
        };
        let mixed = attend(&q, &k, &v, None)?.f_transpose(1, 2)?;
        self.output.forward(&mixed.f_flatten(2, 3)?)
    }
}
