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
    adapter: Option<LowRank>,
}

/// A low-rank change to a layer's weight, kept apart from it (LoRA, arXiv 2106.09685): `scale·B·A`.
#[derive(Clone)]
struct LowRank {
    /// A, `[rank, inputs]`
    down: Matrix,
    /// B, `[outputs, rank]`
    up: Matrix,
    scale: f32,
}

impl Linear {
    /// Takes `weight` and, if `bias`, `bias` from `scope`.
    pub fn new(inputs: usize, outputs: usize, bias: bool, scope: &Scope<'_>) -> Self {
        Self {
            weight: scope.matrix("weight", &[outputs, inputs]),
            bias: bias.then(|| scope.vector("bias", &[outputs])),
            adapter: None,
        }
    }

    /// A layer of parts that were taken from elsewhere.
    pub fn from_parts(weight: Matrix, bias: Option<Vec<f32>>) -> Self {
        Self {
            weight,
            bias,
            adapter: None,
        }
    }

    /// The layer with a low-rank adapter: `y = x·Wᵀ + b + scale·x·Aᵀ·Bᵀ`, with `down` A `[rank, inputs]`
    /// and `up` B `[outputs, rank]`.
    #[must_use]
    pub fn adapted(self, down: Matrix, up: Matrix, scale: f32) -> Self {
        Self {
            adapter: Some(LowRank { down, up, scale }),
            ..self
        }
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
    /// When the last dimension is not `inputs`, or the layer has an adapter, which would have to be added
    /// before the activation.
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
        if self.adapter.is_some() && epilogue.activation.is_some() {
            return Err(PluginError::unsupported(
                "a low-rank adapter on a layer that an activation follows; merge it into the weights",
            ));
        }
        let y = with_slice(x, |x| {
            let y = linear(x, self.weight.elements(), inputs, outputs, epilogue);
            Ok(match &self.adapter {
                Some(adapter) => adapter.added(x, &y, epilogue.scale),
                None => y,
            })
        })?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        from_vec(y, shape)
    }
}

impl LowRank {
    /// `y + layer_scale·scale·x·Aᵀ·Bᵀ`
    fn added(&self, x: &[f32], y: &[f32], layer_scale: Option<&[f32]>) -> Vec<f32> {
        let (rank, outputs) = (self.down.rows(), self.up.rows());
        let (down, up) = (self.down.elements(), self.up.elements());
        let low = linear(x, down, self.down.columns(), rank, Epilogue::default());
        let scale: Vec<f32> = match layer_scale {
            Some(layer_scale) => layer_scale.iter().map(|s| s * self.scale).collect(),
            None => vec![self.scale; outputs],
        };
        let epilogue = Epilogue {
            scale: Some(&scale),
            residual: Some(y),
            ..Epilogue::default()
        };
        linear(&low, up, rank, outputs, epilogue)
    }
}
