//! `cross_attention_avg_lq`: upstream's `CrossAttentionAdapterLearnableQuery` with `averagetoken`.

use super::fused::{Fused, same_shapes, weighted_sum};
use crate::mixer::{
    layers::{Linear, softmax},
    parameters::Scope,
};
use candle_core::{D, Tensor};
use merv_architectures::mixer::{Init, fusion::UNUSED};
use merv_plugin_sdk::Result;

/// A learned query attends to the mean feature of each encoder, and the attention weights mix the encoders. This is
/// PyTorch's `MultiheadAttention` with one head, of which only the attention weights are used.
pub struct CrossAttention {
    query: Linear,
    key: Linear,
    /// `[1, query_width]`
    learned: Tensor,
    /// The number of tokens of an encoder, unless it has only one.
    tokens: usize,
}

impl CrossAttention {
    /// Takes `Q`, of `width`, and the projections of the query and the key from `scope`.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn new(tokens: usize, llm_width: usize, width: usize, scope: &Scope<'_>) -> Result<Self> {
        let attention = scope.pp("attention");
        let [value, output, output_bias] = UNUSED;
        // PyTorch stores one matrix if all three projections have the same width, and otherwise three.
        let (query, key) = if width == llm_width && attention.contains("in_proj_weight") {
            let init = Init::xavier(width, 3 * width);
            let all = attention.parameter("in_proj_weight", &[3 * width, width], init)?;
            (all.narrow(0, 0, width)?, all.narrow(0, width, width)?)
        } else {
            let of_features = Init::xavier(llm_width, width);
            attention.unused(value, &[width, llm_width], of_features);
            let query = Init::xavier(width, width);
            (
                attention.parameter("q_proj_weight", &[width, width], query)?,
                attention.parameter("k_proj_weight", &[width, llm_width], of_features)?,
            )
        };
        attention.unused(output, &[width, width], Init::fan_in(width));
        attention.unused(output_bias, &[width], Init::Zeros);
        let bias = attention.parameter("in_proj_bias", &[3 * width], Init::Zeros)?;
        Ok(Self {
            query: Linear::from_parts(query, Some(bias.narrow(0, 0, width)?)),
            key: Linear::from_parts(key, Some(bias.narrow(0, width, width)?)),
            learned: scope.parameter("Q", &[1, width], Init::xavier(width, 1))?,
            tokens,
        })
    }

    /// Combines the projected features of all encoders.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, tokens, llm_width]`, or `[batch, 1, llm_width]`, which is repeated →
    /// `[batch, tokens, llm_width]`, and weights `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// When the shapes of the encoders do not match each other.
    pub fn forward(&self, projected: &[Tensor]) -> Result<Fused> {
        same_shapes(projected, self.tokens)?;
        let means = projected
            .iter()
            .map(|features| features.mean_keepdim(1))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let keys = self.key.forward(&Tensor::cat(&means, 1)?)?;
        let query = self.query.forward(&self.learned)?;
        let scale = 1.0 / (self.learned.dim(1)? as f64).sqrt();
        let scores = (keys.broadcast_matmul(&query.t()?)?.squeeze(D::Minus1)? * scale)?;
        let weights = softmax(&scores)?;
        Ok(Fused {
            tokens: weighted_sum(projected, &weights, self.tokens)?,
            weights: Some(weights),
        })
    }
}
