//! `attntv`: upstream's `AttentivePooler`, which comes from V-JEPA (arXiv 2404.08471).

use super::{
    linear::{LayerNorm, linear},
    scope::Scope,
};
use crate::{
    failure::Result,
    layers::{Linear, attend, heads},
    tensor::size,
};
use merv_architectures::mixer::{
    Init,
    projector::{DEVIATION, HEADS, MLP_RATIO},
};
use merv_plugin_api::PluginError;
use tch::{Kind, Tensor};

/// Learned queries attend to the features of each time step. This is a transformer block with cross-attention, in which only
/// the features are normalised.
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
    /// Takes `query_tokens` and `cross_attn.{norm1,xattn.{q,kv,proj},norm2,mlp.{fc1,fc2}}`.
    pub fn new(queries: usize, width: usize, scope: &Scope<'_>) -> Result<Self> {
        if !width.is_multiple_of(HEADS) {
            return Err(PluginError::invalid(format!(
                "the width {width} is not a multiple of the {HEADS} heads of the attentive pooler"
            ))
            .into());
        }
        let block = scope.pp("cross_attn");
        let (attention, mlp) = (block.pp("xattn"), block.pp("mlp"));
        // Layers that add to the residual stream have smaller initial weights, as in V-JEPA.
        let adding = [
            Init::Normal(DEVIATION / std::f64::consts::SQRT_2),
            Init::Zeros,
        ];
        let (shape, hidden) = ([1, queries, width], MLP_RATIO.saturating_mul(width));
        Ok(Self {
            queries: scope.vector("query_tokens", &shape, Init::Normal(DEVIATION))?,
            norm_features: LayerNorm::new(width, &block.pp("norm1"))?,
            query: linear(width, width, &attention.pp("q"))?,
            key_value: linear(width, width.saturating_mul(2), &attention.pp("kv"))?,
            output: linear(width, width, &attention.pp("proj").with_linear(adding))?,
            norm_mlp: LayerNorm::new(width, &block.pp("norm2"))?,
            up: linear(width, hidden, &mlp.pp("fc1"))?,
            down: linear(hidden, width, &mlp.pp("fc2").with_linear(adding))?,
        })
    }

    /// `[batch, temporal, spatial, width]` → `[batch, temporal · queries, width]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, temporal, spatial, width) = x.size4()?;
        let steps = batch * temporal;
        let features = self
            .norm_features
            .forward(&x.f_reshape([steps, spatial, width])?)?;
        let key_value = self.key_value.forward(&features)?;
        let part = |index| -> Result<Tensor> {
            let part = key_value.f_narrow(2, index * width, width)?;
            heads(&part.f_contiguous()?, size(HEADS))
        };
        // All clips share the queries, so they are projected once.
        let query = heads(&self.query.forward(&self.queries)?, size(HEADS))?;
        let mut shape = query.size();
        shape[0] = steps;
        let mixed = attend(&query.f_expand(shape, false)?, &part(0)?, &part(1)?, None)?;
        let mixed = mixed.f_transpose(1, 2)?.f_flatten(2, 3)?;
        let x = self.queries.f_add(&self.output.forward(&mixed)?)?;
        let inner = self
            .up
            .forward(&self.norm_mlp.forward(&x)?)?
            .f_gelu("none")?;
        let x = x
            .f_to_kind(Kind::Float)?
            .f_add(&self.down.forward(&inner)?)?;
        Ok(x.f_reshape([batch, -1, width])?)
    }
}
