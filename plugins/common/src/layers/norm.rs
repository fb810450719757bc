//! Normalisation layers.

use crate::{
    Result,
    gradients::{Parameter, note},
    kernels::{
        norm::{self, Norm, norm_backward},
        rows::add,
    },
    tensor::{from_vec, rows, with_slice},
    weights::Scope,
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// Layer normalisation over the last dimension (arXiv 1607.06450; `torch.nn.LayerNorm`).
pub struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
    epsilon: f32,
}

impl LayerNorm {
    /// Takes `weight` and `bias` from `scope`.
    pub fn new(width: usize, epsilon: f64, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.small_parameter("weight", &[width]),
            bias: scope.small_parameter("bias", &[width]),
            epsilon: epsilon as f32,
        }
    }

    /// # Shapes
    ///
    /// `[.., width]` → the same shape
    ///
    /// # Errors
    ///
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check(x, self.weight.len())?;
        let (scale, shift) = (self.weight.values(), self.bias.values());
        let y = with_slice(x, |x| {
            Ok(norm::layer_norm(
                x,
                &scale.f32s(),
                &shift.f32s(),
                self.epsilon,
            ))
        })?;
        let y = from_vec(y, x.dims())?;
        note_norm(
            Norm::Layer,
            x,
            &y,
            &self.weight,
            Some(&self.bias),
            self.epsilon,
        );
        Ok(y)
    }
}

/// Root-mean-square normalisation over the last dimension (arXiv 1910.07467; `LlamaRMSNorm`).
pub struct RmsNorm {
    weight: Parameter,
    epsilon: f32,
}

impl RmsNorm {
    /// Takes `weight` from `scope`.
    pub fn new(width: usize, epsilon: f64, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.small_parameter("weight", &[width]),
            epsilon: epsilon as f32,
        }
    }

    /// # Shapes
    ///
    /// `[.., width]` → the same shape
    ///
    /// # Errors
    ///
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check(x, self.weight.len())?;
        let scale = self.weight.values();
        let y = with_slice(x, |x| Ok(norm::rms_norm(x, &scale.f32s(), self.epsilon)))?;
        let y = from_vec(y, x.dims())?;
        note_norm(
            Norm::RootMeanSquare,
            x,
            &y,
            &self.weight,
            None,
            self.epsilon,
        );
        Ok(y)
    }
}

/// Notes the backward pass of a norm.
fn note_norm(
    norm: Norm,
    x: &Tensor,
    y: &Tensor,
    weight: &Parameter,
    bias: Option<&Parameter>,
    epsilon: f32,
) {
    let (input, weight, bias) = (x.clone(), weight.clone(), bias.cloned());
    let trained = weight.is_trained();
    note("a norm", &[x], y, trained, move |gradient, flow| {
        let scale = weight.values();
        let scale = scale.f32s();
        with_slice(&input, |x| {
            let backward = |out: &mut [f32], added| {
                let of = (x, &*scale, epsilon);
                let sums = norm_backward(norm, of, &gradient, (out, added), trained);
                if let Some([scales, shifts]) = sums {
                    weight.add_to_gradient(|sum| add(sum, &scales));
                    if let Some(bias) = &bias {
                        bias.add_to_gradient(|sum| add(sum, &shifts));
                    }
                }
            };
            if flow.needs(input.id()) {
                flow.update(input.id(), x.len(), backward);
            } else {
                backward(&mut vec![0.0; x.len()], false);
            }
            Ok(())
        })
    });
}

fn check(x: &Tensor, width: usize) -> Result<()> {
    if rows(x)?.1 == width {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "a norm of width {width} received a tensor of shape {:?}",
        x.dims()
    )))
}
