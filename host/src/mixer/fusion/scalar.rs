//! `scalar`: upstream's `ScalarAdapter`, for any number of encoders.

use super::fused::{Fused, same_shapes, weighted_sum};
use crate::mixer::{layers::softmax, parameters::Scope};
use candle_core::Tensor;
use merv_architectures::mixer::Init;
use merv_plugin_sdk::Result;

/// Weights the encoders with a softmax over one learned number per encoder. The weights are the same for every clip.
pub struct Scalar {
    /// `[encoders]`
    learned: Tensor,
}

impl Scalar {
    /// Takes `scalar` from `scope`.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be created.
    pub fn new(encoders: usize, scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            learned: scope.parameter("scalar", &[encoders], Init::Normal(1.0))?,
        })
    }

    /// Combines the projected features of all encoders.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, tokens, llm_width]` → the same, and weights `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// When the shapes of the encoders do not match each other.
    pub fn forward(&self, projected: &[Tensor]) -> Result<Fused> {
        let (batch, tokens) = match projected.first() {
            Some(first) => (first.dim(0)?, first.dim(1)?),
            None => (0, 0),
        };
        same_shapes(projected, tokens)?;
        let weights = softmax(&self.learned)?.unsqueeze(0)?;
        let weights = weights.broadcast_as((batch, self.learned.dim(0)?))?;
        Ok(Fused {
            tokens: weighted_sum(projected, &weights, tokens)?,
            weights: Some(weights.contiguous()?),
        })
    }
}
