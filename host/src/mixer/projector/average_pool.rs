//! `avg` and `3davg`: upstream's `AveragePoolingProjector` and `AveragePooling3DProjector`.

use super::{
    Pool,
    windows::{Axis, Grid},
};
use candle_core::Tensor;
use merv_plugin_sdk::Result;

/// An adaptive average over the features of each time step, and over time: `torch.nn.AdaptiveAvgPool3d`. If the number
/// of time steps does not change, which is always the case for `avg`, time is not pooled.
pub struct AveragePool {
    /// `[side², spatial]`
    spatial: Tensor,
    /// `[time steps out, time steps in]`, if they differ.
    temporal: Option<Tensor>,
}

impl AveragePool {
    /// Computes the pooling matrices.
    ///
    /// # Errors
    ///
    /// When a pooling matrix would be too large.
    pub fn new(time: Axis, grid: Grid) -> Result<Self> {
        let temporal = (time.from != time.to).then(|| time.pooling(&[0]));
        Ok(Self {
            spatial: grid.pooling(&[[0, 0]])?,
            temporal: temporal.transpose()?,
        })
    }
}

impl Pool for AveragePool {
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (batch, temporal, spatial, width) = features.dims4()?;
        let grids = features.reshape((batch * temporal, spatial, width))?;
        let pooled = self.spatial.broadcast_matmul(&grids)?;
        let tokens = self.spatial.dim(0)?;
        let Some(time) = &self.temporal else {
            return Ok(pooled.reshape((batch, temporal * tokens, width))?);
        };
        let steps = pooled.reshape((batch, temporal, tokens * width))?;
        let steps = time.broadcast_matmul(&steps)?;
        Ok(steps.reshape((batch, time.dim(0)? * tokens, width))?)
    }
}
