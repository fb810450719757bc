//! `conv`: upstream's `ConvolutionalProjector`, the C-Abstractor of Honeybee (arXiv 2312.06742). `3dconv`: upstream's
//! `Convolutional3DProjector`.

use super::{linear::LayerNorm, scope::Scope};
use crate::{failure::Result, tensor::size};
use merv_architectures::mixer::{
    Init,
    projector::{KERNEL, TAPS, block_widths, squeezed},
};
use tch::{Kind, Tensor};

/// A convolution without bias over rows and columns, followed by a norm over channels.
struct ConvNorm {
    /// `[outputs, inputs / groups, side, side]`
    kernel: Tensor,
    groups: i64,
    norm: LayerNorm,
}

impl ConvNorm {
    fn new(shape: [usize; 4], groups: usize, scope: &Scope<'_>) -> Result<Self> {
        let init = Init::fan_in(shape[1].saturating_mul(shape[2] * shape[3]));
        Ok(Self {
            kernel: scope.pp("conv").matrix("weight", &shape, init)?,
            groups: size(groups),
            norm: LayerNorm::new(shape[0], &scope.pp("bn"))?,
        })
    }

    /// `[steps, inputs, rows, columns]` → `[steps, outputs, rows, columns]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let margin = self.kernel.size().last().copied().unwrap_or(1) / 2;
        let x = x.f_to_kind(self.kernel.kind())?;
        let none = None::<&Tensor>;
        let y = x.f_conv2d(&self.kernel, none, [1, 1], [margin; 2], [1, 1], self.groups)?;
        let normed = self.norm.forward(&y.f_permute([0, 2, 3, 1])?)?;
        Ok(normed.f_permute([0, 3, 1, 2])?)
    }
}

/// A convolution of one pixel, with bias.
struct Pointwise {
    kernel: Tensor,
    bias: Tensor,
}

impl Pointwise {
    fn new(inputs: usize, outputs: usize, scope: &Scope<'_>) -> Result<Self> {
        let init = Init::fan_in(inputs);
        Ok(Self {
            kernel: scope.matrix("weight", &[outputs, inputs, 1, 1], init)?,
            bias: scope.matrix("bias", &[outputs], init)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(self.kernel.kind())?;
        let (bias, one) = (Some(&self.bias), [1, 1]);
        Ok(x.f_conv2d(&self.kernel, bias, one, [0, 0], one, 1)?)
    }
}

/// The bottleneck of RegNet with squeeze and excitation (arXiv 2003.13678; timm's `regnet.Bottleneck`). The inner width equals
/// the outer width, and each channel is its own group.
struct RegNetBlock {
    conv1: ConvNorm,
    conv2: ConvNorm,
    squeeze: Pointwise,
    excite: Pointwise,
    conv3: ConvNorm,
    /// The projection of the skip connection, if the widths differ.
    downsample: Option<ConvNorm>,
}

impl RegNetBlock {
    fn new(inputs: usize, width: usize, scope: &Scope<'_>) -> Result<Self> {
        let (squeezed, se) = (squeezed(inputs, width), scope.pp("se"));
        let pointwise = |name: &str, inputs| {
            let shape = [width, inputs, 1, 1];
            ConvNorm::new(shape, 1, &scope.pp(name))
        };
        // The order of the host's mixer.
        let downsample = (inputs != width).then(|| pointwise("downsample", inputs));
        let downsample = downsample.transpose()?;
        Ok(Self {
            conv1: pointwise("conv1", inputs)?,
            conv2: ConvNorm::new([width, 1, KERNEL, KERNEL], width, &scope.pp("conv2"))?,
            squeeze: Pointwise::new(width, squeezed, &se.pp("fc1"))?,
            excite: Pointwise::new(squeezed, width, &se.pp("fc2"))?,
            conv3: pointwise("conv3", width)?,
            downsample,
        })
    }

    /// `[steps, inputs, rows, columns]` → `[steps, width, rows, columns]` of `f32`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv1.forward(x)?.f_silu()?;
        let y = self.conv2.forward(&y)?.f_silu()?;
        let mean = y.f_mean_dim([2, 3].as_slice(), true, Kind::Float)?;
        let gate = self
            .excite
            .forward(&self.squeeze.forward(&mean)?.f_silu()?)?;
        let y = self.conv3.forward(&y.f_mul(&gate.f_sigmoid()?)?)?;
        let skip = match &self.downsample {
            Some(downsample) => downsample.forward(x)?,
            None => x.shallow_clone(),
        };
        Ok(y.f_add(&skip)?.f_silu()?)
    }
}

/// RegNet blocks on the grid of each time step, an adaptive average, and more RegNet blocks.
pub struct ConvPool {
    before: Vec<RegNetBlock>,
    after: Vec<RegNetBlock>,
    grid: [i64; 2],
    side: i64,
}

impl ConvPool {
    /// Takes `convolution_pooling.{0,2}.b{1,2,3}`.
    pub fn new(
        grid: [usize; 2],
        side: usize,
        width: usize,
        llm_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let stage = |name: usize, width: usize| {
            let scope = scope.pp("convolution_pooling").pp(name);
            block_widths(width, llm_width)
                .map(|(block, width)| {
                    RegNetBlock::new(width, llm_width, &scope.pp(format!("b{block}")))
                })
                .collect::<Result<_>>()
        };
        Ok(Self {
            before: stage(0, width)?,
            after: stage(2, llm_width)?,
            grid: grid.map(size),
            side: size(side),
        })
    }

    /// `[batch, temporal, spatial, width]` → `[batch, temporal · side², llm_width]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, temporal, _, width) = x.size4()?;
        let [rows, columns] = self.grid;
        let x = x.f_reshape([batch * temporal, rows, columns, width])?;
        let mut x = x.f_permute([0, 3, 1, 2])?;
        for block in &self.before {
            x = block.forward(&x)?;
        }
        x = x.f_adaptive_avg_pool2d([self.side; 2])?;
        for block in &self.after {
            x = block.forward(&x)?;
        }
        let (_, width, ..) = x.size4()?;
        Ok(x.f_permute([0, 2, 3, 1])?.f_reshape([batch, -1, width])?)
    }
}

/// A convolution of 3×3×3 with padding over time, rows and columns, then an adaptive average.
pub struct Conv3dPool {
    /// `[llm_width, width, 3, 3, 3]`
    kernel: Tensor,
    bias: Tensor,
    grid: [i64; 2],
    /// Time steps, rows and columns after the average.
    to: [i64; 3],
}

impl Conv3dPool {
    /// Takes `convolution_pooling.0.{weight,bias}`.
    pub fn new(
        grid: [usize; 2],
        to: [usize; 3],
        width: usize,
        llm_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let scope = scope.pp("convolution_pooling").pp(0);
        let init = Init::fan_in(width.saturating_mul(TAPS.pow(3)));
        Ok(Self {
            kernel: scope.matrix("weight", &[llm_width, width, TAPS, TAPS, TAPS], init)?,
            bias: scope.matrix("bias", &[llm_width], init)?,
            grid: grid.map(size),
            to: to.map(size),
        })
    }

    /// `[batch, temporal, spatial, width]` → `[batch, tokens, llm_width]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, temporal, _, width) = x.size4()?;
        let [rows, columns] = self.grid;
        let x = x.f_reshape([batch, temporal, rows, columns, width])?;
        let x = x
            .f_permute([0, 4, 1, 2, 3])?
            .f_to_kind(self.kernel.kind())?;
        let one = [1, 1, 1];
        let y = x.f_conv3d(&self.kernel, Some(&self.bias), one, one, one, 1)?;
        let y = y.f_to_kind(Kind::Float)?.f_adaptive_avg_pool3d(self.to)?;
        Ok(y.f_flatten(2, 4)?.f_transpose(1, 2)?)
    }
}
