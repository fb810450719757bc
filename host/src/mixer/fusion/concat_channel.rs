//! `concat_channel` and `concat_channel_ln`: upstream's `LinearProjector` on concatenated features.

use crate::mixer::{
    layers::{LayerNorm, Linear},
    parameters::Scope,
};
use candle_core::{D, Tensor};
use merv_plugin_sdk::Result;

/// Concatenates the features of the encoders along the width, applies a layer norm if there is one, and projects the
/// result to the width of the language model with a linear layer.
pub struct ConcatChannel {
    norm: Option<LayerNorm>,
    linear: Linear,
}

impl ConcatChannel {
    /// Takes `projector` from `scope`, or with a norm `0` and `1.projector`.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn new(encoders: usize, llm_width: usize, norm: bool, scope: &Scope<'_>) -> Result<Self> {
        let width = encoders * llm_width;
        let (norm, scope) = if norm {
            (Some(LayerNorm::new(width, &scope.pp(0))?), scope.pp(1))
        } else {
            (None, scope.clone())
        };
        Ok(Self {
            norm,
            linear: Linear::new(width, llm_width, &scope.pp("projector"))?,
        })
    }

    /// Combines the projected features of all encoders.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, tokens, llm_width]` → the same
    ///
    /// # Errors
    ///
    /// When the shapes of the encoders do not match each other.
    pub fn forward(&self, projected: &[Tensor]) -> Result<Tensor> {
        let joined = Tensor::cat(projected, D::Minus1)?;
        match &self.norm {
            Some(norm) => self.linear.forward(&norm.forward(&joined)?),
            None => self.linear.forward(&joined),
        }
    }
}
