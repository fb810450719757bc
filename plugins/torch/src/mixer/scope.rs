//! The parameters of a mixer: those that the host has, and new ones.

use crate::{failure::Result, learned::Parameter, placement::Placement, tensor::sizes};
use merv_architectures::mixer::Init;
use merv_plugin_api::{MixerWeights, ParameterInfo};
use std::cell::RefCell;
use tch::{Kind, Tensor};

/// A position in the tree of names. It records the parameters that are taken.
#[derive(Clone)]
pub struct Scope<'a> {
    /// `None` if only the names and shapes of parameters are collected.
    weights: Option<&'a MixerWeights<'a>>,
    taken: &'a RefCell<Vec<Parameter>>,
    placement: Placement,
    prefix: String,
    /// The initial weights and biases of linear layers, if they differ from PyTorch's.
    linear: Option<[Init; 2]>,
}

impl<'a> Scope<'a> {
    /// Returns the root of the tree.
    pub fn root(
        weights: Option<&'a MixerWeights<'a>>,
        placement: Placement,
        taken: &'a RefCell<Vec<Parameter>>,
    ) -> Self {
        Self {
            weights,
            taken,
            placement,
            prefix: String::new(),
            linear: None,
        }
    }

    /// Returns the scope below `name`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: format!("{}{name}.", self.prefix),
            ..self.clone()
        }
    }

    /// Returns the same scope with other initial weights and biases of linear layers.
    pub fn with_linear(&self, linear: [Init; 2]) -> Self {
        Self {
            linear: Some(linear),
            ..self.clone()
        }
    }

    /// Returns the initial values of the weight and the bias of a linear layer with `inputs` inputs.
    pub fn linear(&self, inputs: usize) -> [Init; 2] {
        self.linear.unwrap_or([Init::fan_in(inputs); 2])
    }

    /// Takes an operand of matrix products, in the precision of the mixer.
    pub fn matrix(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.take(name, shape, init, self.placement.operands())
    }

    /// Takes a parameter that belongs to the checkpoint, although nothing is computed with it. It does not change in training.
    pub fn unused(&self, name: &str, shape: &[usize], init: Init) -> Result<()> {
        let _ = self.matrix(name, shape, init)?;
        if let Some(parameter) = self.taken.borrow_mut().last_mut() {
            parameter.is_used = false;
        }
        Ok(())
    }

    /// Takes a parameter that is used in `f32`.
    pub fn vector(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.take(name, shape, init, Kind::Float)
    }

    fn take(&self, name: &str, shape: &[usize], init: Init, kind: Kind) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let weights = match self.weights {
            Some(weights) => {
                let new;
                let values = match weights.get(&name)? {
                    Some(values) => values,
                    None => {
                        new = init.values(&name, shape, weights.seed())?;
                        &new
                    }
                };
                let values = Tensor::f_from_slice(values)?.f_reshape(sizes(shape))?;
                values.f_to(self.placement.torch())?.f_to_kind(kind)?
            }
            // It takes no memory, whatever the sizes.
            None => {
                Tensor::f_zeros([1], (kind, tch::Device::Cpu))?.f_expand(sizes(shape), false)?
            }
        };
        self.taken.borrow_mut().push(Parameter {
            info: ParameterInfo::new(name, shape),
            is_used: true,
            weights: weights.shallow_clone(),
        });
        Ok(weights)
    }
}
