//! The interface of all poolings.

use candle_core::Tensor;
use merv_plugin_sdk::Result;

/// Reduces the number of tokens.
pub(super) trait Pool: Send + Sync {
    /// Pools features.
    ///
    /// # Shapes
    ///
    /// `[batch, temporal, spatial, width]` → `[batch, tokens, pooled width]`
    ///
    /// # Errors
    ///
    /// When the features have another shape.
    fn forward(&self, features: &Tensor) -> Result<Tensor>;
}
