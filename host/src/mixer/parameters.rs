//! The mixer's parameters: what every training stage trains, and how layers get hold of them.

use super::init::Init;
use candle_core::{DType, Device, Tensor, Var};
use merv_checkpoint::StoredTensor;
use merv_plugin_sdk::{Result, weights};
use std::{cell::RefCell, fmt};

/// A parameter under the name that it has in MERV's checkpoint. A layer's tensors are views of it, so
/// that they change with it.
pub struct Parameter {
    /// `projectors.0.projector.projector.weight`
    pub name: String,
    /// The values.
    pub var: Var,
}

/// A tensor of a mixer, whatever it holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorSpec {
    /// Its name in MERV's checkpoint.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// What it is before it is trained.
    pub(super) init: Init,
    /// Whether something is computed from it.
    pub(super) is_used: bool,
}

/// What a mixer has taken so far.
#[derive(Default)]
pub struct Collected {
    parameters: RefCell<Vec<Parameter>>,
    specs: RefCell<Vec<TensorSpec>>,
}

/// Where tensors come from.
#[derive(Clone)]
pub enum Origin<'a> {
    /// All of them from a file.
    File(weights::Scope<'a>),
    /// From a file those that it holds, the others from a seed.
    Init(u64, Option<weights::Scope<'a>>),
    /// From nowhere: they are only specs.
    Nowhere,
}

/// A place in the tree of tensor names that notes what is taken.
#[derive(Clone)]
pub struct Scope<'a> {
    origin: Origin<'a>,
    prefix: String,
    taken: &'a Collected,
    /// What [`Self::linear`] says of weights and biases, if not what PyTorch does.
    linear: Option<[Init; 2]>,
}

impl Collected {
    /// The parameters, in the order in which they were taken.
    pub fn into_parameters(self) -> Vec<Parameter> {
        self.parameters.into_inner()
    }

    /// Descriptions of all tensors, in the order in which they were asked for.
    pub(super) fn into_specs(self) -> Vec<TensorSpec> {
        self.specs.into_inner()
    }
}

impl<'a> Scope<'a> {
    /// The root of the tree.
    pub fn root(origin: Origin<'a>, taken: &'a Collected) -> Self {
        Self {
            origin,
            prefix: String::new(),
            taken,
            linear: None,
        }
    }

    /// The scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl fmt::Display) -> Self {
        Self {
            prefix: format!("{}{name}.", self.prefix),
            ..self.clone()
        }
    }

    /// The same scope, in which weights and biases of linear layers begin otherwise than in PyTorch.
    #[must_use]
    pub fn with_linear(&self, linear: [Init; 2]) -> Self {
        Self {
            linear: Some(linear),
            ..self.clone()
        }
    }

    /// How weight and bias of a linear layer of so many inputs begin here.
    pub fn linear(&self, inputs: usize) -> [Init; 2] {
        self.linear.unwrap_or([Init::fan_in(inputs); 2])
    }

    /// Whether `name` can be had below this scope.
    pub fn contains(&self, name: &str) -> bool {
        match &self.origin {
            Origin::File(file) => file.contains(&self.full(name)),
            Origin::Init(..) | Origin::Nowhere => true,
        }
    }

    /// The tensor `name`, of `shape`, which begins as `init` says. One that is missing in a file or has another
    /// shape is noted.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be made.
    pub fn parameter(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let name = self.full(name);
        let values = match &self.origin {
            Origin::File(file) => file.vector(&name, shape),
            Origin::Init(_, Some(reused)) if reused.contains(&name) => reused.vector(&name, shape),
            Origin::Init(seed, _) => init.values(&name, shape, *seed)?,
            Origin::Nowhere => Vec::new(),
        };
        self.describe(&name, shape, init, true);
        if values.is_empty() {
            // What stands for it takes no memory, whatever sizes the file made up, and never leaves the
            // loader.
            return Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?);
        }
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        let tensor = var.as_tensor().clone();
        let mut parameters = self.taken.parameters.borrow_mut();
        parameters.push(Parameter { name, var });
        Ok(tensor)
    }

    /// Says that the tensor `name` belongs to the mixer, although nothing is computed from it.
    pub fn unused(&self, name: &str, shape: &[usize], init: Init) {
        self.describe(&self.full(name), shape, init, false);
    }

    fn describe(&self, name: &str, shape: &[usize], init: Init, is_used: bool) {
        self.taken.specs.borrow_mut().push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            is_used,
        });
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// A tensor that belongs to a mixer's file, although nothing is computed from it.
pub(super) enum Unused {
    Stored(StoredTensor),
    Init(TensorSpec, u64),
}
