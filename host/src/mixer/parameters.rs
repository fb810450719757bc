//! The mixer's parameters: what every training stage trains, and how layers get hold of them.

use candle_core::{DType, Device, Tensor, Var};
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

/// The parameters that a mixer has taken so far.
#[derive(Default)]
pub struct Parameters(RefCell<Vec<Parameter>>);

/// A place in the tree of tensor names, as [`weights::Scope`], that notes what is taken.
#[derive(Clone)]
pub struct Scope<'a> {
    scope: weights::Scope<'a>,
    prefix: String,
    taken: &'a Parameters,
}

impl Parameters {
    /// The parameters, in the order in which they were taken.
    pub fn into_vec(self) -> Vec<Parameter> {
        self.0.into_inner()
    }
}

impl<'a> Scope<'a> {
    /// The root of the tree of a file.
    pub fn root(scope: weights::Scope<'a>, taken: &'a Parameters) -> Self {
        Self {
            scope,
            prefix: String::new(),
            taken,
        }
    }

    /// The scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl fmt::Display) -> Self {
        Self {
            scope: self.scope.pp(&name),
            prefix: format!("{}{name}.", self.prefix),
            taken: self.taken,
        }
    }

    /// Whether the file holds `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.scope.contains(name)
    }

    /// The shape of `name` in the file.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.scope.shape(name)
    }

    /// The tensor `name`, of `shape`. One that is missing or of another shape is noted.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be made.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let values = self.scope.vector(name, shape);
        if values.is_empty() {
            // What stands for it takes no memory, whatever sizes the file made up, and never leaves the
            // loader.
            return Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?);
        }
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        let tensor = var.as_tensor().clone();
        self.taken.0.borrow_mut().push(Parameter {
            name: format!("{}{name}", self.prefix),
            var,
        });
        Ok(tensor)
    }
}
