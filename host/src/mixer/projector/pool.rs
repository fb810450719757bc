//! What every pooling does.

use candle_core::Tensor;
use merv_plugin_sdk::Result;

/// Fewer tokens of as many features.
pub(super) trait Pool: Send + Sync {
    /// # Shapes
    ///
    /// `[batch, temporal, spatial, width]` → `[batch, tokens, pooled width]`
    ///
    /// # Errors
    ///
    /// When the features have another shape.
    fn forward(&self, features: &Tensor) -> Result<Tensor>;
}
