//! Weights from safetensors files.

use crate::{
    failure::Result,
    learned::Parameter,
    tensor::{shape, sizes},
};
use merv_plugin_api::{ModelSource, ParameterInfo, PluginError};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// The tensors of a model's files that nobody has taken yet, and the parameters that were taken.
pub struct Weights {
    stored: HashMap<String, Tensor>,
    pub taken: Vec<Parameter>,
}

impl Weights {
    /// Reads all files of `model`.
    pub fn read(model: &ModelSource) -> Result<Self> {
        let mut stored = HashMap::new();
        for path in &model.weights {
            if path
                .extension()
                .is_none_or(|extension| extension != "safetensors")
            {
                return Err(PluginError::weights(format!(
                    "{}: this plugin reads safetensors only; `merv-host convert` writes such a file",
                    path.display()
                ))
                .into());
            }
            let tensors = Tensor::read_safetensors(path)
                .map_err(|error| PluginError::weights(format!("{}: {error}", path.display())))?;
            stored.extend(tensors);
        }
        Ok(Self {
            stored,
            taken: Vec::new(),
        })
    }

    /// Takes the tensor with this name and shape, as `f32`.
    pub fn take(&mut self, name: &str, expected: &[usize]) -> Result<Tensor> {
        let Some(found) = self.stored.remove(name) else {
            return Err(PluginError::weights(format!("there is no tensor `{name}`")).into());
        };
        if found.size() != sizes(expected) {
            let found = shape(&found);
            return Err(PluginError::weights(format!(
                "tensor `{name}`: expected the shape {expected:?}, found {found:?}"
            ))
            .into());
        }
        let weights = found.f_to_kind(Kind::Float)?.f_contiguous()?;
        self.taken.push(Parameter {
            info: ParameterInfo::new(name, expected),
            weights: weights.shallow_clone(),
        });
        Ok(weights)
    }
}

/// A linear layer.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `[outputs, inputs]` weights, and the bias if there is one.
    pub fn new(
        weights: &mut Weights,
        name: &str,
        [inputs, outputs]: [usize; 2],
        bias: bool,
    ) -> Result<Self> {
        let weight = weights.take(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = match bias {
            true => Some(weights.take(&format!("{name}.bias"), &[outputs])?),
            false => None,
        };
        Ok(Self { weight, bias })
    }

    /// A layer without bias that shares its weights with another part of the model.
    pub fn sharing(weight: &Tensor) -> Self {
        Self {
            weight: weight.shallow_clone(),
            bias: None,
        }
    }

    /// `[…, inputs]` → `[…, outputs]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}
