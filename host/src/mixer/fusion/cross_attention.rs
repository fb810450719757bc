//! `cross_attention_avg_lq`: upstream's `CrossAttentionAdapterLearnableQuery` with `averagetoken`.

use candle_core::{D, Device, Tensor};
use merv_plugin_sdk::{PluginError, Result, linear::Linear, weights::Scope};

/// A learned query attends to the mean feature of each encoder; the attention's weights mix the
/// encoders. PyTorch's `MultiheadAttention` with one head, of which only the weights are used.
pub struct CrossAttention {
    /// The projected query: `[query_width]`.
    query: Linear,
    key: Linear,
    learned: Vec<f32>,
}

impl CrossAttention {
    /// Takes `Q` and the query's and key's projections from `scope`. The query's width is read off
    /// `Q`: 3072 in the published models.
    pub fn new(llm_width: usize, scope: &Scope<'_>) -> Self {
        let width = scope
            .shape("Q")
            .and_then(|shape| shape.last())
            .copied()
            .unwrap_or(3072);
        let attention = scope.pp("attention");
        // PyTorch keeps one matrix where all three have the same width, else three.
        let (query, key) = if width == llm_width && attention.contains("in_proj_weight") {
            let all = attention.matrix("in_proj_weight", &[3 * width, width]);
            (all.narrow(0..width), all.narrow(width..2 * width))
        } else {
            (
                attention.matrix("q_proj_weight", &[width, width]),
                attention.matrix("k_proj_weight", &[width, llm_width]),
            )
        };
        let bias = attention.vector("in_proj_bias", &[3 * width]);
        Self {
            query: Linear::from_parts(query, bias.get(..width).map(<[f32]>::to_vec)),
            key: Linear::from_parts(key, bias.get(width..2 * width).map(<[f32]>::to_vec)),
            learned: scope.vector("Q", &[1, width]),
        }
    }

    /// # Shapes
    ///
    /// Of each encoder `[batch, tokens, llm_width]`, or `[batch, 1, llm_width]`, which is repeated →
    /// `[batch, tokens, llm_width]` and the weights `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// When the encoders' shapes do not fit each other.
    pub fn forward(&self, projected: &[Tensor]) -> Result<(Tensor, Tensor)> {
        let shapes = projected
            .iter()
            .map(Tensor::dims3)
            .collect::<candle_core::Result<Vec<_>>>()?;
        let Some(&(batch, _, width)) = shapes.first() else {
            return Err(PluginError::invalid(
                "expected the features of at least one encoder",
            ));
        };
        let tokens = shapes.iter().map(|shape| shape.1).max().unwrap_or(1);
        if shapes
            .iter()
            .any(|&(b, t, w)| b != batch || w != width || (t != tokens && t != 1))
        {
            return Err(PluginError::invalid(format!(
                "expected all encoders at [{batch}, {tokens}, {width}], found {shapes:?}"
            )));
        }
        let means = projected
            .iter()
            .map(|features| features.mean_keepdim(1))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let keys = self.key.forward(&Tensor::cat(&means, 1)?.contiguous()?)?;
        let learned = Tensor::from_slice(&self.learned, (1, self.learned.len()), &Device::Cpu)?;
        let query = self.query.forward(&learned)?;
        let scale = 1.0 / (self.learned.len() as f64).sqrt();
        let scores = (keys.broadcast_matmul(&query.t()?)?.squeeze(D::Minus1)? * scale)?;
        let exponents = scores.broadcast_sub(&scores.max_keepdim(1)?)?.exp()?;
        let weights = exponents.broadcast_div(&exponents.sum_keepdim(1)?)?;
        let mut fused = Tensor::zeros((batch, tokens, width), projected[0].dtype(), &Device::Cpu)?;
        for (index, features) in projected.iter().enumerate() {
            let weight = weights.narrow(1, index, 1)?.unsqueeze(2)?;
            fused = fused.broadcast_add(&features.broadcast_mul(&weight)?)?;
        }
        Ok((fused, weights))
    }
}
