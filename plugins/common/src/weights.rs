//! Weights that are read from their mapped files.
//!
//! A model is built inside [`load`], which collects all tensors that are missing, unused or of another shape
//! and reports them in one error. Missing values are never filled in.

use crate::{
    Result,
    gradients::{Parameter, Parameters},
    matrix::{Matrix, Taken, computable},
    precision::Precision,
};
use merv_architectures::weights::{self as names};
use merv_checkpoint::{Checkpoint, Mapping};
use std::{cell::RefCell, path::PathBuf};

pub use merv_architectures::weights::{Telling, agree, open};

/// A prefix of tensor names, which are nested as in `torch.nn.Module`.
#[derive(Clone)]
pub struct Scope<'a> {
    names: names::Scope<'a>,
    /// In the order in which the model took them.
    parameters: &'a RefCell<Vec<Parameter>>,
    precision: Precision,
}

/// Maps `paths` and builds a model from their tensors.
///
/// `unused` lists the tensors that the files can contain although `build` does not take them. An entry is a
/// name, or a prefix that ends in a dot.
///
/// # Errors
///
/// When a file cannot be read or is damaged; when `build` fails; and when a tensor is missing, has another
/// shape, or is neither taken nor in `unused`. The message lists all such tensors with expected and found
/// shapes.
pub fn load<T>(
    paths: &[PathBuf],
    unused: &[&str],
    build: impl FnOnce(Scope<'_>) -> Result<T>,
) -> Result<T> {
    let checkpoint = open(paths, |name| Some(name.to_owned()))?;
    load_checkpoint(checkpoint, unused, build)
}

/// As [`load`], for a checkpoint that is already open.
///
/// # Errors
///
/// As [`load`].
pub fn load_checkpoint<T>(
    checkpoint: Checkpoint,
    unused: &[&str],
    build: impl FnOnce(Scope<'_>) -> Result<T>,
) -> Result<T> {
    let parameters = RefCell::default();
    names::load_checkpoint(checkpoint, unused, |names| {
        build(Scope {
            names,
            parameters: &parameters,
            precision: Precision::F32,
        })
    })
}

impl Scope<'_> {
    /// Returns the scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            names: self.names.pp(name),
            ..*self
        }
    }

    /// Returns the scope below `name`, if there is one.
    #[must_use]
    pub fn below(&self, name: Option<&str>) -> Self {
        name.map_or_else(|| self.clone(), |name| self.pp(name))
    }

    /// Returns the same scope with another precision for its matrix products. The default is `f32`.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Returns the precision of matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns the mapping of the files.
    pub fn mapping(&self) -> Mapping {
        self.names.mapping()
    }

    /// Returns whether the files contain `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns the shape of `name` in the files.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.names.shape(name)
    }

    fn full(&self, name: &str) -> String {
        self.names.full(name)
    }

    /// Takes `name`. Records a problem and returns `None` if it is missing or unsuitable.
    fn take(&self, name: &str, shape: &[usize]) -> Option<Taken> {
        let taken = self.names.take(name, shape, |tensor| {
            (!computable(tensor)).then(|| {
                format!(
                    "is of {}, expected F32, F16, BF16 or one of ggml's quantised types",
                    tensor.dtype
                )
            })
        });
        taken.map(Taken::new)
    }

    /// Records a problem if `name` is missing, without taking it. For tensors that belong to the model but
    /// are not used in the computation.
    pub fn require(&self, name: &str) {
        self.names.require(name);
    }

    /// Takes a matrix, which stays mapped. `shape` can have more than two dimensions (the kernel of a
    /// convolution); all but the first become columns.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Matrix {
        let (rows, columns) = match shape.split_first() {
            Some((rows, rest)) => (*rows, rest.iter().product()),
            None => (1, 1),
        };
        Matrix {
            taken: self.take(name, shape),
            rows,
            columns,
        }
    }

    /// Takes a matrix that can be trained; see [`Self::matrix`].
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Parameter {
        let matrix = self.matrix(name, shape);
        self.record(Parameter::mapped(
            self.full(name),
            shape,
            matrix,
            self.precision,
        ))
    }

    /// Takes a small tensor that can be trained; see [`Self::vector`].
    pub fn small_parameter(&self, name: &str, shape: &[usize]) -> Parameter {
        let values = self.vector(name, shape);
        self.record(Parameter::copied(self.full(name), shape, values))
    }

    fn record(&self, parameter: Parameter) -> Parameter {
        let mut all = self.parameters.borrow_mut();
        all.push(parameter.clone());
        parameter
    }

    /// Returns the number of parameters that were taken so far, in this and in all other scopes.
    pub fn taken(&self) -> u32 {
        self.parameters.borrow().len() as u32
    }

    /// Returns all parameters that were taken so far, in this and in all other scopes.
    pub fn parameters(&self) -> Parameters {
        Parameters::new(self.parameters.borrow().clone())
    }

    /// Takes a copy of a small tensor as `f32`: a bias, a norm's scale, a position embedding. Records a
    /// problem and returns an empty vector if it is missing or unsuitable.
    pub fn vector(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        match self.take(name, shape) {
            Some(taken) => {
                let mut scratch = Vec::new();
                taken.elements().to_f32(&mut scratch).to_vec()
            }
            None => Vec::new(),
        }
    }
}
