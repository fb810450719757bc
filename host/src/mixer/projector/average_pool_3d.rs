//! `3davg+linear`: upstream's `AveragePooling3DProjector` with a `LinearProjector`.

use super::pooling::square_pooling;
use crate::mixer::EncoderShape;
use candle_core::Tensor;
use merv_plugin_sdk::{PluginError, Result, linear::Linear, weights::Scope};

/// Elements of a pooling matrix at most: 256 MiB, for features of 1024 by 1024 to 8 by 8.
const MAX_POOLING: usize = 1 << 26;

/// Averages each temporal position's square of features to a smaller square, then projects. As many
/// temporal positions come out as go in, so that the third dimension of the pooling rests.
pub struct AveragePool3d {
    shape: EncoderShape,
    /// `[side · side, spatial]`
    pooling: Tensor,
    linear: Linear,
}

impl AveragePool3d {
    /// Takes `projector.projector.{weight,bias}` from `scope`; pools to `side · side`.
    ///
    /// # Errors
    ///
    /// When the features of a temporal position form no square.
    pub fn new(
        shape: EncoderShape,
        side: usize,
        llm_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let from = shape.spatial.isqrt();
        if from * from != shape.spatial || from == 0 || side == 0 {
            return Err(PluginError::invalid(format!(
                "{} features a temporal position form no square to pool to {side} by {side}",
                shape.spatial
            )));
        }
        if shape.spatial.saturating_mul(side * side) > MAX_POOLING {
            return Err(PluginError::invalid(format!(
                "pooling {} features to {side} by {side} is out of all proportion",
                shape.spatial
            )));
        }
        let scope = scope.pp("projector").pp("projector");
        Ok(Self {
            shape,
            pooling: square_pooling(from, side)?,
            linear: Linear::new(shape.width, llm_width, true, &scope),
        })
    }

    /// # Shapes
    ///
    /// `[batch, temporal · spatial, width]` → `[batch, temporal · side², llm_width]`
    ///
    /// # Errors
    ///
    /// When the features have another shape.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let EncoderShape {
            width,
            temporal,
            spatial,
        } = self.shape;
        let (batch, tokens, found) = features.dims3()?;
        if tokens != temporal * spatial || found != width {
            return Err(PluginError::invalid(format!(
                "expected features [batch, {temporal}·{spatial}, {width}], found {:?}",
                features.dims()
            )));
        }
        let grids = features.reshape((batch * temporal, spatial, width))?;
        let pooled = self.pooling.broadcast_matmul(&grids)?;
        let pooled = pooled.reshape((batch, temporal * self.pooling.dim(0)?, width))?;
        self.linear.forward(&pooled.contiguous()?)
    }
}
