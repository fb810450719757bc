//! `attntv`: upstream's `AttentivePooler`, which comes from V-JEPA (arXiv 2404.08471).

use super::Pool;
use crate::mixer::{
    layers::{LayerNorm, Linear, softmax},
    parameters::Scope,
};
use candle_core::Tensor;
use merv_architectures::mixer::{
    Init,
    projector::{DEVIATION, HEADS, MLP_RATIO},
};
use merv_plugin_sdk::{PluginError, Result};

/// Learned queries attend to the features of each time step. This is a transformer block with cross-attention, in which
/// only the features are normalised.
pub struct AttentivePool {
    /// `[1, queries, width]`
    queries: Tensor,
    norm_features: LayerNorm,
    query: Linear,
    /// Keys and values, side by side.
    key_value: Linear,
    output: Linear,
    norm_mlp: LayerNorm,
    up: Linear,
    down: Linear,
}

impl AttentivePool {
    /// Takes `query_tokens` and `cross_attn.{norm1,xattn.{q,kv,proj},norm2,mlp.{fc1,fc2}}` from
    /// `scope`.
    ///
    /// # Errors
    ///
    /// When the width is not a multiple of the number of heads.
    pub fn new(queries: usize, width: usize, scope: &Scope<'_>) -> Result<Self> {
        if !width.is_multiple_of(HEADS) {
            return Err(PluginError::invalid(format!(
                "the width {width} is not a multiple of the {HEADS} heads of the attentive pooler"
            )));
        }
        let block = scope.pp("cross_attn");
        let attention = block.pp("xattn");
        let mlp = block.pp("mlp");
        // Layers that add to the residual stream have smaller initial weights, as in V-JEPA.
        let adding = [
            Init::Normal(DEVIATION / std::f64::consts::SQRT_2),
            Init::Zeros,
        ];
        Ok(Self {
            queries: scope.parameter(
                "query_tokens",
                &[1, queries, width],
                Init::Normal(DEVIATION),
            )?,
            norm_features: LayerNorm::new(width, &block.pp("norm1"))?,
            query: Linear::new(width, width, &attention.pp("q"))?,
            key_value: Linear::new(width, 2 * width, &attention.pp("kv"))?,
            output: Linear::new(width, width, &attention.pp("proj").with_linear(adding))?,
            norm_mlp: LayerNorm::new(width, &block.pp("norm2"))?,
            up: Linear::new(width, MLP_RATIO * width, &mlp.pp("fc1"))?,
            down: Linear::new(MLP_RATIO * width, width, &mlp.pp("fc2").with_linear(adding))?,
        })
    }

    /// # Shapes
    ///
    /// `[clips, spatial, width]` → `[clips, queries, width]`
    fn attend(&self, features: &Tensor) -> Result<Tensor> {
        let (clips, spatial, width) = features.dims3()?;
        let (queries, head) = (self.queries.dim(1)?, width / HEADS);
        // All clips share the queries, so they are projected once.
        let q = self
            .query
            .forward(&self.queries)?
            .reshape((1, queries, HEADS, head))?
            .transpose(1, 2)?
            .broadcast_as((clips, HEADS, queries, head))?
            .contiguous()?;
        let pairs = self
            .key_value
            .forward(features)?
            .reshape((clips, spatial, 2, HEADS, head))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let (k, v) = (pairs.get(0)?, pairs.get(1)?);
        let scores = (q.matmul(&k.t()?)? * (1.0 / (head as f64).sqrt()))?;
        let mixed = softmax(&scores)?
            .matmul(&v)?
            .transpose(1, 2)?
            .reshape((clips, queries, width))?;
        self.output.forward(&mixed)
    }
}

impl Pool for AttentivePool {
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (batch, temporal, spatial, width) = features.dims4()?;
        let steps = features.reshape((batch * temporal, spatial, width))?;
        let attended = self.attend(&self.norm_features.forward(&steps)?)?;
        let attended = self.queries.broadcast_add(&attended)?;
        let inner = self.up.forward(&self.norm_mlp.forward(&attended)?)?;
        let pooled = (&attended + self.down.forward(&inner.gelu_erf()?)?)?;
        Ok(pooled.reshape((batch, temporal * self.queries.dim(1)?, width))?)
    }
}
