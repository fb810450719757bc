//! Layers built from tensor operations that candle can differentiate. Every training stage trains the mixer, and its
//! cost is small compared with the encoders.

use super::parameters::Scope;
use candle_core::{D, Tensor};
use merv_architectures::mixer::Init;
use merv_plugin_sdk::Result;

/// The epsilon of every norm of the mixer, the default of PyTorch.
const EPSILON: f64 = 1e-5;

/// Like [`Scope::parameter`], for a tensor that is `stored` in another shape with the same number of elements.
///
/// # Errors
///
/// When the tensor cannot be created.
pub fn reshaped(
    scope: &Scope<'_>,
    name: &str,
    stored: &[usize],
    shape: &[usize],
    init: Init,
) -> Result<Tensor> {
    let parameter = scope.parameter(name, stored, init)?;
    if parameter.is_contiguous() {
        return Ok(parameter.reshape(shape)?);
    }
    // A placeholder for a missing tensor is one repeated element. candle would copy all elements to reshape it.
    let first = (0..stored.len()).try_fold(parameter, |tensor, dim| tensor.narrow(dim, 0, 1))?;
    Ok(first.reshape(())?.broadcast_as(shape)?)
}

/// `x·Wᵀ + b` (`torch.nn.Linear`).
pub struct Linear {
    /// `[outputs, inputs]`
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `weight` and `bias` from `scope`.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn new(inputs: usize, outputs: usize, scope: &Scope<'_>) -> Result<Self> {
        let [weight, bias] = scope.linear(inputs);
        Ok(Self {
            weight: scope.parameter("weight", &[outputs, inputs], weight)?,
            bias: Some(scope.parameter("bias", &[outputs], bias)?),
        })
    }

    /// Creates a layer from tensors with other names. `weight` is `[outputs, inputs]`.
    pub fn from_parts(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// Creates a convolution with a kernel of one pixel, which is a linear layer on tokens. Takes `weight`
    /// `[outputs, inputs, 1, 1]` from `scope`, and `bias` if requested.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn pointwise(inputs: usize, outputs: usize, bias: bool, scope: &Scope<'_>) -> Result<Self> {
        let stored = [outputs, inputs, 1, 1];
        let init = Init::fan_in(inputs);
        let bias = bias.then(|| scope.parameter("bias", &[outputs], init));
        Ok(Self {
            weight: reshaped(scope, "weight", &stored, &[outputs, inputs], init)?,
            bias: bias.transpose()?,
        })
    }

    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// `[.., inputs]` → `[.., outputs]`
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        // One matrix product over all rows is faster than a batch of small ones.
        let rows = x.elem_count() / x.dim(D::Minus1)?.max(1);
        let y = x
            .reshape((rows, x.dim(D::Minus1)?))?
            .matmul(&self.weight.t()?)
            .map_err(|error| error.context(format!("a linear layer of {inputs} inputs")))?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        Ok(y.reshape(shape)?)
    }
}

/// Layer normalisation over the last dimension (arXiv 1607.06450; `torch.nn.LayerNorm`).
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Takes `weight` and `bias` from `scope`.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn new(width: usize, scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            weight: scope.parameter("weight", &[width], Init::Ones)?,
            bias: scope.parameter("bias", &[width], Init::Zeros)?,
        })
    }

    /// Normalises the last dimension.
    ///
    /// # Shapes
    ///
    /// `[.., width]` → the same
    ///
    /// # Errors
    ///
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?.sqrt()?;
        Ok(centred
            .broadcast_div(&deviation)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?)
    }
}

/// Returns the softmax over the last dimension.
///
/// # Errors
///
/// When `x` has no dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    // The shift does not change the result, so it does not need a gradient.
    let shift = x.max_keepdim(D::Minus1)?.detach();
    let exponents = x.broadcast_sub(&shift)?.exp()?;
    Ok(exponents.broadcast_div(&exponents.sum_keepdim(D::Minus1)?)?)
}

/// Returns the logistic function, in a form that overflows neither in the value nor in the gradient.
///
/// # Errors
///
/// When the dtype of the tensor does not support the hyperbolic tangent.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(((x * 0.5)?.tanh()? + 1.0)?.affine(0.5, 0.0)?)
}
