//! `avg` and `3davg`: upstream's `AveragePoolingProjector` and `AveragePooling3DProjector`.

use super::{
    Pool,
    windows::{Axis, Grid},
};
use candle_core::Tensor;
use merv_plugin_sdk::Result;

/// Adaptive average over the features of each time step, and over time: `torch.nn.AdaptiveAvgPool3d`.
/// Where as many time steps come out as go in, which is all that `avg` can do, time rests.
pub struct AveragePool {
    /// `[side², spatial]`
    spatial: Tensor,
    /// `[time steps out, time steps in]`, where they differ.
    temporal: Option<Tensor>,
}

impl AveragePool {
    /// # Errors
    ///
    /// When a pooling matrix would be out of all proportion.
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
