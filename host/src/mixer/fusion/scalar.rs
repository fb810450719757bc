//! `scalar`: upstream's `ScalarAdapter`, for any number of encoders.

use super::fused::{Fused, same_shapes, weighted_sum};
use crate::mixer::{init::Init, layers::softmax, parameters::Scope};
use candle_core::Tensor;
use merv_plugin_sdk::Result;

/// A softmax over one learned number an encoder weighs them, the same for every clip.
pub struct Scalar {
    /// `[encoders]`
    learned: Tensor,
}

impl Scalar {
    /// Takes `scalar` from `scope`.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be made.
    pub fn new(encoders: usize, scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            learned: scope.parameter("scalar", &[encoders], Init::Normal(1.0))?,
        })
    }

    /// # Shapes
    ///
    /// Of each encoder `[batch, tokens, llm_width]` → the same, and weights `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// When the encoders' shapes do not fit each other.
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
