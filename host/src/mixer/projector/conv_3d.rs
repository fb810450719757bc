//! `3dconv`: upstream's `Convolutional3DProjector`.

use super::{
    Pool,
    windows::{Axis, Grid},
};
use crate::mixer::{
    layers::{Linear, reshaped},
    parameters::Scope,
};
use candle_core::Tensor;
use merv_architectures::mixer::{Init, projector::TAPS};
use merv_plugin_sdk::Result;

/// A convolution of 3×3×3 with padding over time, rows and columns, then an adaptive average.
///
/// Both are linear, so the average can be computed first, separately for the inputs of each of the 27 taps of the
/// kernel. Then a linear layer maps 27 averages to each token, for fewer tokens than in the convolution.
pub struct Conv3dPool {
    /// `[9 · side², spatial]`: for every spatial tap, the average of its inputs.
    spatial: Tensor,
    /// `[3 · time steps out, time steps in]`: the same for every temporal tap.
    temporal: Tensor,
    /// `[llm_width, width · 27]`
    kernel: Linear,
}

impl Conv3dPool {
    /// Takes `convolution_pooling.0.{weight,bias}` from `scope`.
    ///
    /// # Errors
    ///
    /// When a pooling matrix would be too large.
    pub fn new(
        time: Axis,
        grid: Grid,
        width: usize,
        llm_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let scope = scope.pp("convolution_pooling").pp(0);
        let stored = [llm_width, width, TAPS, TAPS, TAPS];
        let flat = [llm_width, width * TAPS.pow(3)];
        let init = Init::fan_in(flat[1]);
        let kernel = reshaped(&scope, "weight", &stored, &flat, init)?;
        let bias = scope.parameter("bias", &[llm_width], init)?;
        let taps = [-1, 0, 1];
        let planes: Vec<_> = taps
            .iter()
            .flat_map(|&down| taps.map(|right| [down, right]))
            .collect();
        Ok(Self {
            spatial: grid.pooling(&planes)?,
            temporal: time.pooling(&taps)?,
            kernel: Linear::from_parts(kernel, Some(bias)),
        })
    }
}

impl Pool for Conv3dPool {
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (batch, temporal, spatial, width) = features.dims4()?;
        let planes = TAPS * TAPS;
        let (steps, windows) = (self.temporal.dim(0)? / TAPS, self.spatial.dim(0)? / planes);
        let grids = features.reshape((batch * temporal, spatial, width))?;
        let averages = self.spatial.broadcast_matmul(&grids)?;
        let averages = averages.reshape((batch, temporal, planes * windows * width))?;
        let averages = self.temporal.broadcast_matmul(&averages)?;
        // In the order of the stored kernel: channel, then the taps of time, row and column.
        let averages = averages
            .reshape(vec![batch, TAPS, steps, planes, windows, width])?
            .permute(vec![0, 2, 4, 5, 1, 3])?
            .reshape((batch, steps * windows, width * TAPS * planes))?;
        self.kernel.forward(&averages)
    }
}
