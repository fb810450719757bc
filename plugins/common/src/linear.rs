//! Fully connected layers on mapped weights.

use crate::{
    Result,
    activation::Activation,
    kernels::linear::{Epilogue, linear},
    tensor::{from_vec, rows, with_slice},
    weights::{Matrix, Scope},
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// `y = x·Wᵀ + b` (`torch.nn.Linear`): weight `[outputs, inputs]`, bias `[outputs]`.
#[derive(Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Takes `weight` and, if `bias`, `bias` from `scope`.
    pub fn new(inputs: usize, outputs: usize, bias: bool, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.matrix("weight", &[outputs, inputs]),
            bias: bias.then(|| scope.vector("bias", &[outputs])),
        }
    }

    /// A layer of parts that were taken from elsewhere.
    pub fn from_parts(weight: Matrix, bias: Option<Vec<f32>>) -> Self {
        Self { weight, bias }
    }

    /// # Shapes
    ///
    /// `[.., inputs]` → `[.., outputs]`
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, Epilogue::default())
    }

    /// `activation(x·Wᵀ + b)`, in one pass.
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.run(
            x,
            Epilogue {
                activation: Some(activation),
                ..Epilogue::default()
            },
        )
    }

    /// `residual + scale·(x·Wᵀ + b)`, in one pass: how every branch of a transformer ends.
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`, or `residual` has not the shape of the result.
    pub fn forward_added(
        &self,
        x: &Tensor,
        residual: &Tensor,
        scale: Option<&[f32]>,
    ) -> Result<Tensor> {
        with_slice(residual, |residual| {
            self.run(
                x,
                Epilogue {
                    scale,
                    residual: Some(residual),
                    ..Epilogue::default()
                },
            )
        })
    }

    fn run(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let (inputs, outputs) = (self.weight.columns(), self.weight.rows());
        let (count, width) = rows(x)?;
        let residual = epilogue.residual.map_or(count * outputs, <[f32]>::len);
        if width != inputs || residual != count * outputs {
            return Err(PluginError::invalid(format!(
                "a linear layer of {inputs} inputs and {outputs} outputs was given {:?}",
                x.dims()
            )));
        }
        let epilogue = Epilogue {
            bias: self.bias.as_deref(),
            ..epilogue
        };
        let y = with_slice(x, |x| {
            Ok(linear(x, self.weight.elements(), inputs, outputs, epilogue))
        })?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        from_vec(y, shape)
    }
}
