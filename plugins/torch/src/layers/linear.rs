//! Fully connected layers and patch embeddings.

use crate::{
    failure::Result,
    tensor::{size, sizes},
    weights::Scope,
};
use tch::Tensor;

/// `y = x·Wᵀ + b` (`torch.nn.Linear`).
pub struct Linear {
    /// `[outputs, inputs]`
    weight: Tensor,
    /// `[outputs]`
    bias: Option<Tensor>,
    adapter: Option<Box<LowRank>>,
}

/// A low-rank adapter, which changes a layer's weight by `scale·B·A` (LoRA, arXiv 2106.09685).
struct LowRank {
    /// A, `[rank, inputs]`
    down: Linear,
    /// B, `[outputs, rank]`
    up: Linear,
    scale: f64,
}

impl Linear {
    /// Takes `weight` and, if `bias`, `bias` from `scope`.
    pub fn new(inputs: usize, outputs: usize, bias: bool, scope: &Scope<'_>) -> Self {
        let weight = scope.matrix("weight", &[outputs, inputs]);
        let bias = bias.then(|| scope.matrix("bias", &[outputs]));
        Self::from_parts(&weight, bias)
    }

    /// Makes a layer of its parameters. The weight may be that of another part of the model, too.
    pub fn from_parts(weight: &Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: weight.shallow_clone(),
            bias,
            adapter: None,
        }
    }

    /// Adds a low-rank adapter: `y = x·Wᵀ + b + scale·x·Aᵀ·Bᵀ`.
    pub fn adapted(self, down: &Tensor, up: &Tensor, scale: f64) -> Self {
        let adapter = LowRank {
            down: Self::from_parts(down, None),
            up: Self::from_parts(up, None),
            scale,
        };
        Self {
            adapter: Some(Box::new(adapter)),
            ..self
        }
    }

    /// `[…, inputs]` → `[…, outputs]`, in the precision of the weight
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.f_to_kind(self.weight.kind())?;
        let y = y.f_linear(&self.weight, self.bias.as_ref())?;
        match &self.adapter {
            None => Ok(y),
            Some(adapter) => {
                let change = adapter.up.forward(&adapter.down.forward(x)?)?;
                Ok(y.f_add(&change.f_mul_scalar(adapter.scale)?)?)
            }
        }
    }
}

/// A convolution over images or clips, each of whose outputs is a token.
pub struct Conv {
    /// `[width, channels, …kernel]`
    kernel: Tensor,
    bias: Option<Tensor>,
    stride: Vec<i64>,
    padding: Vec<i64>,
}

impl Conv {
    /// Takes a kernel of this shape, `[width, channels, …]`, and, if `bias`, a bias. The stride equals the kernel, so the
    /// patches do not overlap.
    pub fn patches(shape: &[usize], bias: bool, scope: &Scope<'_>) -> Self {
        let stride = sizes(&shape[2..]);
        let padding = vec![0; stride.len()];
        Self {
            kernel: scope.matrix("weight", shape),
            bias: bias.then(|| scope.matrix("bias", &shape[..1])),
            stride,
            padding,
        }
    }

    /// Sets how far patches are apart, and the zeros around the input.
    pub fn strided(self, stride: &[usize], padding: &[usize]) -> Self {
        Self {
            stride: sizes(stride),
            padding: sizes(padding),
            ..self
        }
    }

    /// `[batch, channels, …]` → `[batch, tokens, width]` of `f32`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(self.kernel.kind())?;
        let (kernel, bias, dilation) =
            (&self.kernel, self.bias.as_ref(), vec![1; self.stride.len()]);
        let y = match self.stride.len() {
            2 => x.f_conv2d(kernel, bias, &self.stride, &self.padding, &dilation, 1)?,
            _ => x.f_conv3d(kernel, bias, &self.stride, &self.padding, &dilation, 1)?,
        };
        let tokens = y.f_flatten(2, size(y.dim()) - 1)?.f_transpose(1, 2)?;
        Ok(tokens.f_to_kind(tch::Kind::Float)?)
    }
}
