//! Attention pooling: a learned query gathers all tokens into one (arXiv 1810.00825).

use crate::{
    Result,
    activation::Activation,
    config::heads_divide,
    kernels::attention::{AttentionShape, BatchStride, Strided, attention},
    linear::Linear,
    mlp::Mlp,
    norm::LayerNorm,
    tensor::{from_vec, with_slice},
    weights::Scope,
};
use candle_core::Tensor;

/// timm's `AttentionPoolLatent` (`timm/layers/attention_pool.py`) with one latent, as SigLIP has it:
/// attention of the latent to all tokens, then a perceptron on a residual branch.
pub struct AttentionPool {
    latent: Vec<f32>,
    query: Linear,
    key_value: Linear,
    output: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl AttentionPool {
    /// Takes `latent`, `q`, `kv`, `proj`, `norm` and `mlp` from `scope`; `hidden` is the width of the
    /// perceptron.
    ///
    /// # Errors
    ///
    /// When `heads` does not divide `width`.
    pub fn new(
        width: usize,
        heads: usize,
        hidden: usize,
        epsilon: f64,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        heads_divide(heads, width)?;
        let linear = |name: &str, outputs| Linear::new(width, outputs, true, &scope.pp(name));
        Ok(Self {
            latent: scope.vector("latent", &[1, 1, width]),
            query: linear("q", width),
            key_value: linear("kv", 2 * width),
            output: linear("proj", width),
            norm: LayerNorm::new(width, epsilon, &scope.pp("norm")),
            mlp: Mlp::new(width, hidden, Activation::Gelu, &scope.pp("mlp")),
            heads,
        })
    }

    /// # Shapes
    ///
    /// `[batch, tokens, width]` → `[batch, 1, width]`
    ///
    /// # Errors
    ///
    /// When a shape does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let head_dim = width / self.heads;
        let query = self
            .query
            .forward(&from_vec(self.latent.clone(), (1, width))?)?;
        let key_value = self.key_value.forward(x)?;
        let row = 2 * width;
        let pooled = with_slice(&query, |query| {
            with_slice(&key_value, |key_value| {
                let strided = |data, position, stride| Strided {
                    data,
                    position,
                    head: head_dim,
                    batch: BatchStride::plain(stride),
                };
                Ok(attention(
                    // Every sequence has the same query.
                    strided(query, width, 0),
                    strided(key_value, row, tokens * row),
                    strided(&key_value[width.min(key_value.len())..], row, tokens * row),
                    AttentionShape {
                        batch,
                        heads: self.heads,
                        kv_heads: self.heads,
                        queries: 1,
                        keys: tokens,
                        head_dim,
                        causal: false,
                    },
                ))
            })
        })?;
        let x = self.output.forward(&from_vec(pooled, (batch, 1, width))?)?;
        self.mlp.forward_added(&self.norm.forward(&x)?, &x, None)
    }
}
