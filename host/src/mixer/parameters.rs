//! The parameters of the mixer, which every training stage trains, and the scopes that layers take them from.

use candle_core::{DType, Device, Tensor, Var};
use merv_architectures::mixer::Init;
use merv_checkpoint::StoredTensor;
use merv_plugin_sdk::{Result, weights};
use std::{cell::RefCell, fmt};

/// A parameter. The tensors of layers are views of it, so they change when it changes.
pub struct Parameter {
    /// The name in MERV's checkpoint, such as `projectors.0.projector.projector.weight`.
    pub name: String,
    /// The values.
    pub var: Var,
}

/// The specification of a tensor of a mixer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorSpec {
    /// The name in MERV's checkpoint.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// The initial values.
    pub(super) init: Init,
    /// Whether the computation uses it.
    pub(super) is_used: bool,
}

/// The parameters and specifications collected while a mixer is built.
#[derive(Default)]
pub struct Collected {
    parameters: RefCell<Vec<Parameter>>,
    specs: RefCell<Vec<TensorSpec>>,
}

/// The origin of tensors.
#[derive(Clone)]
pub enum Origin<'a> {
    /// All tensors come from a file.
    File(weights::Scope<'a>),
    /// Tensors come from the file if it contains them, and otherwise from a seed.
    Init(u64, Option<weights::Scope<'a>>),
    /// No tensors are created: only their specifications are collected.
    Nowhere,
}

/// A position in the tree of tensor names. It records the tensors that are collected.
#[derive(Clone)]
pub struct Scope<'a> {
    origin: Origin<'a>,
    prefix: String,
    collected: &'a Collected,
    /// The initialisation of weights and biases that [`Self::linear`] returns, if it differs from PyTorch.
    linear: Option<[Init; 2]>,
}

impl Collected {
    /// Returns the parameters, in the order in which they were collected.
    pub fn into_parameters(self) -> Vec<Parameter> {
        self.parameters.into_inner()
    }

    /// Returns the specifications of all tensors, in the order in which they were requested.
    pub(super) fn into_specs(self) -> Vec<TensorSpec> {
        self.specs.into_inner()
    }
}

impl<'a> Scope<'a> {
    /// Returns the root of the tree.
    pub fn root(origin: Origin<'a>, collected: &'a Collected) -> Self {
        Self {
            origin,
            prefix: String::new(),
            collected,
            linear: None,
        }
    }

    /// Returns the scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl fmt::Display) -> Self {
        Self {
            prefix: format!("{}{name}.", self.prefix),
            ..self.clone()
        }
    }

    /// Returns the same scope with another initialisation of the weights and biases of linear layers.
    #[must_use]
    pub fn with_linear(&self, linear: [Init; 2]) -> Self {
        Self {
            linear: Some(linear),
            ..self.clone()
        }
    }

    /// Returns the initialisation of the weight and the bias of a linear layer with `inputs` inputs.
    pub fn linear(&self, inputs: usize) -> [Init; 2] {
        self.linear.unwrap_or([Init::fan_in(inputs); 2])
    }

    /// Returns whether `name` is available below this scope.
    pub fn contains(&self, name: &str) -> bool {
        match &self.origin {
            Origin::File(file) => file.contains(&self.full(name)),
            Origin::Init(..) | Origin::Nowhere => true,
        }
    }

    /// Returns the tensor `name` of `shape`, with the initial values `init`. If it is missing in a file or has another
    /// shape, this is recorded, and a placeholder is returned.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be created.
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
            // The placeholder does not allocate memory, whatever sizes the file claims, and never leaves the loader.
            return Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?);
        }
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        let tensor = var.as_tensor().clone();
        let mut parameters = self.collected.parameters.borrow_mut();
        parameters.push(Parameter { name, var });
        Ok(tensor)
    }

    /// Returns the values of the tensor `name` of `shape`, and records it. Returns `None` if it is new, or if only
    /// specifications are collected.
    pub fn stored(&self, name: &str, shape: &[usize], init: Init) -> Option<Vec<f32>> {
        let name = self.full(name);
        self.describe(&name, shape, init, true);
        match &self.origin {
            Origin::File(file) => Some(file.vector(&name, shape)),
            Origin::Init(_, Some(reused)) if reused.contains(&name) => {
                Some(reused.vector(&name, shape))
            }
            Origin::Init(..) | Origin::Nowhere => None,
        }
    }

    /// Returns whether only the specifications of tensors are collected.
    pub fn only_collects(&self) -> bool {
        matches!(self.origin, Origin::Nowhere)
    }

    /// Returns the seed of new tensors.
    pub fn seed(&self) -> u64 {
        match self.origin {
            Origin::Init(seed, _) => seed,
            Origin::File(_) | Origin::Nowhere => 0,
        }
    }

    /// Records that the tensor `name` belongs to the mixer although the computation does not use it.
    pub fn unused(&self, name: &str, shape: &[usize], init: Init) {
        self.describe(&self.full(name), shape, init, false);
    }

    fn describe(&self, name: &str, shape: &[usize], init: Init, is_used: bool) {
        self.collected.specs.borrow_mut().push(TensorSpec {
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

/// A tensor that belongs to the file of a mixer although the computation does not use it.
pub(super) enum Unused {
    Stored(StoredTensor),
    Init(TensorSpec, u64),
}
