//! `conv`: upstream's `ConvolutionalProjector`, the C-Abstractor of Honeybee (arXiv 2312.06742).

use super::{Pool, windows::Grid};
use crate::mixer::{
    layers::{LayerNorm, Linear, reshaped, sigmoid},
    parameters::Scope,
};
use candle_core::Tensor;
use merv_architectures::mixer::{
    Init,
    projector::{KERNEL, block_widths, squeezed},
};
use merv_plugin_sdk::Result;

/// RegNet blocks on the grid of each time step, an adaptive average, and more RegNet blocks.
pub struct ConvPool {
    grid: Grid,
    before: Vec<RegNetBlock>,
    /// `[side², spatial]`
    pooling: Tensor,
    after: Vec<RegNetBlock>,
}

impl ConvPool {
    /// Takes `convolution_pooling.{0,2}.b{1,2,3}` from `scope`.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn new(grid: Grid, width: usize, llm_width: usize, scope: &Scope<'_>) -> Result<Self> {
        let stage = |name: usize, width: usize| {
            let scope = scope.pp("convolution_pooling").pp(name);
            block_widths(width, llm_width)
                .map(|(block, width)| {
                    RegNetBlock::new(width, llm_width, &scope.pp(format!("b{block}")))
                })
                .collect::<Result<_>>()
        };
        Ok(Self {
            grid,
            before: stage(0, width)?,
            pooling: grid.pooling(&[[0, 0]])?,
            after: stage(2, llm_width)?,
        })
    }
}

impl Pool for ConvPool {
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (batch, temporal, spatial, width) = features.dims4()?;
        let steps = batch * temporal;
        let Grid { rows, columns } = self.grid;
        let mut x = features.reshape((steps, rows.from, columns.from, width))?;
        for block in &self.before {
            x = block.forward(&x)?;
        }
        let width = x.dim(3)?;
        let pooled = self
            .pooling
            .broadcast_matmul(&x.reshape((steps, spatial, width))?)?;
        let mut x = pooled.reshape((steps, rows.to, columns.to, width))?;
        for block in &self.after {
            x = block.forward(&x)?;
        }
        Ok(x.reshape((batch, temporal * rows.to * columns.to, width))?)
    }
}

/// A convolution without bias, followed by a norm.
struct ConvNorm {
    conv: Convolution,
    norm: LayerNorm,
}

enum Convolution {
    /// One pixel at a time.
    Pointwise(Linear),
    /// One channel at a time: `[KERNEL², width]`.
    Depthwise(Tensor),
}

impl ConvNorm {
    fn pointwise(inputs: usize, outputs: usize, scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv: Convolution::Pointwise(Linear::pointwise(
                inputs,
                outputs,
                false,
                &scope.pp("conv"),
            )?),
            norm: LayerNorm::new(outputs, &scope.pp("bn"))?,
        })
    }

    fn depthwise(width: usize, scope: &Scope<'_>) -> Result<Self> {
        let stored = [width, 1, KERNEL, KERNEL];
        let flat = [width, KERNEL * KERNEL];
        let weight = reshaped(
            &scope.pp("conv"),
            "weight",
            &stored,
            &flat,
            Init::fan_in(KERNEL * KERNEL),
        )?;
        Ok(Self {
            conv: Convolution::Depthwise(weight.t()?),
            norm: LayerNorm::new(width, &scope.pp("bn"))?,
        })
    }

    /// # Shapes
    ///
    /// `[steps, rows, columns, inputs]` → `[steps, rows, columns, outputs]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.conv {
            Convolution::Pointwise(linear) => linear.forward(x)?,
            Convolution::Depthwise(weight) => depthwise(x, weight)?,
        };
        self.norm.forward(&x)
    }
}

/// Computes a depthwise convolution with padding, as a sum over the taps of the kernel.
fn depthwise(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, rows, columns, _) = x.dims4()?;
    let margin = KERNEL / 2;
    let padded = x
        .pad_with_zeros(1, margin, margin)?
        .pad_with_zeros(2, margin, margin)?;
    let mut sum = x.zeros_like()?;
    for down in 0..KERNEL {
        let band = padded.narrow(1, down, rows)?;
        for right in 0..KERNEL {
            let shifted = band.narrow(2, right, columns)?;
            let tap = weight.get(down * KERNEL + right)?;
            sum = (sum + shifted.broadcast_mul(&tap)?)?;
        }
    }
    Ok(sum)
}

/// The bottleneck of RegNet with squeeze and excitation (arXiv 2003.13678; timm's `regnet.Bottleneck`). The inner width
/// equals the outer width, and each channel is its own group.
struct RegNetBlock {
    conv1: ConvNorm,
    conv2: ConvNorm,
    squeeze: Linear,
    excite: Linear,
    conv3: ConvNorm,
    /// The projection of the skip connection, if the input and output widths differ.
    downsample: Option<ConvNorm>,
}

impl RegNetBlock {
    /// Takes `conv1`, `conv2`, `se.{fc1,fc2}`, `conv3` and, if the widths differ, `downsample` from
    /// `scope`.
    fn new(inputs: usize, width: usize, scope: &Scope<'_>) -> Result<Self> {
        let squeezed = squeezed(inputs, width);
        let se = scope.pp("se");
        let downsample =
            (inputs != width).then(|| ConvNorm::pointwise(inputs, width, &scope.pp("downsample")));
        Ok(Self {
            conv1: ConvNorm::pointwise(inputs, width, &scope.pp("conv1"))?,
            conv2: ConvNorm::depthwise(width, &scope.pp("conv2"))?,
            squeeze: Linear::pointwise(width, squeezed, true, &se.pp("fc1"))?,
            excite: Linear::pointwise(squeezed, width, true, &se.pp("fc2"))?,
            conv3: ConvNorm::pointwise(width, width, &scope.pp("conv3"))?,
            downsample: downsample.transpose()?,
        })
    }

    /// # Shapes
    ///
    /// `[steps, rows, columns, inputs]` → `[steps, rows, columns, width]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv1.forward(x)?.silu()?;
        let y = self.conv2.forward(&y)?.silu()?;
        let (steps, _, _, width) = y.dims4()?;
        let squeezed = self.squeeze.forward(&y.mean((1, 2))?)?.silu()?;
        let gate = sigmoid(&self.excite.forward(&squeezed)?)?;
        let y = y.broadcast_mul(&gate.reshape((steps, 1, 1, width))?)?;
        let y = self.conv3.forward(&y)?;
        let skip = match &self.downsample {
            Some(downsample) => downsample.forward(x)?,
            None => x.clone(),
        };
        Ok((y + skip)?.silu()?)
    }
}
