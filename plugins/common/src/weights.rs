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
use merv_checkpoint::{Checkpoint, CheckpointError, Mapping};
use merv_plugin_api::PluginError;
use std::{cell::RefCell, collections::BTreeSet, error::Error, path::PathBuf};

/// The number of problems that an error lists. It only counts the others.
const LISTED_PROBLEMS: usize = 12;

/// Maps `paths`, in any format that [`Checkpoint`] reads, and renames the tensors. Tensors for which `rename`
/// returns `None` belong to another model and are skipped.
///
/// # Errors
///
/// When a file cannot be read or is damaged, when two tensors have the same name, and when all tensors belong
/// to other models.
pub fn open(paths: &[PathBuf], rename: impl Fn(&str) -> Option<String>) -> Result<Checkpoint> {
    let weights = |error: CheckpointError| {
        let outer = PluginError::weights(&error);
        match error.source() {
            Some(source) => outer.caused_by(source),
            None => outer,
        }
    };
    let all = Checkpoint::open(paths).map_err(weights)?;
    let count = all.len();
    let renamed = all.rename(rename).map_err(weights)?;
    if renamed.is_empty() && count > 0 {
        return Err(PluginError::weights(format!(
            "none of the {count} tensors in {} belongs to this model: they belong to other models (for example, \
             a checkpoint of the align stage does not contain a language model)",
            listed(renamed.paths())
        )));
    }
    Ok(renamed)
}

fn listed(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// A tensor whose shape depends on the config: its possible names, its expected shape, and the config keys
/// that determine the shape.
pub type Telling<'a> = (&'a [&'a str], &'a [usize], &'a str);

/// Checks that the weights have the sizes of their config, without loading them. Does nothing without
/// `paths`. Missing tensors are reported by [`load`].
///
/// # Errors
///
/// When a file cannot be read, or a tensor has another shape. The message contains the tensor's name, both
/// shapes and the keys.
pub fn agree(paths: &[PathBuf], telling: &[Telling<'_>]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let checkpoint = open(paths, |name| Some(name.to_owned()))?;
    for (names, expected, keys) in telling {
        let stored = names
            .iter()
            .find_map(|name| Some((name, checkpoint.get(name)?)));
        if let Some((name, tensor)) = stored
            && tensor.shape != *expected
        {
            return Err(PluginError::weights(format!(
                "`{name}` in {} has shape {:?}, but with {keys} of the model's config it is {expected:?}; \
                 correct them, or use the config file that belongs to these weights",
                listed(checkpoint.paths()),
                tensor.shape
            )));
        }
    }
    Ok(())
}

/// What `load` records while a model takes its tensors.
struct Ledger {
    checkpoint: Checkpoint,
    used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
    /// In the order in which the model took them.
    parameters: RefCell<Vec<Parameter>>,
}

/// A prefix of tensor names, which are nested as in `torch.nn.Module`.
#[derive(Clone)]
pub struct Scope<'a> {
    ledger: &'a Ledger,
    prefix: String,
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
    let ledger = Ledger {
        checkpoint,
        used: RefCell::default(),
        problems: RefCell::default(),
        parameters: RefCell::default(),
    };
    let model = build(Scope {
        ledger: &ledger,
        prefix: String::new(),
        precision: Precision::F32,
    });
    let mut problems = ledger.problems.take();
    let used = ledger.used.take();
    for (name, tensor) in ledger.checkpoint.iter() {
        if model.is_err() {
            // The tensors that it would have taken are unknown.
            break;
        }
        let known = unused
            .iter()
            .any(|&known| name == known || (known.ends_with('.') && name.starts_with(known)));
        // Older checkpoints store the position numbers. No model needs them.
        let known = known || (!tensor.dtype.is_float() && name.ends_with(".position_ids"));
        if !used.contains(name) && !known {
            problems.push(format!(
                "tensor `{name}` {:?} is not part of the model",
                tensor.shape
            ));
        }
    }
    if problems.is_empty() {
        return model;
    }
    let count = problems.len();
    let mut list = problems
        .iter()
        .take(LISTED_PROBLEMS)
        .cloned()
        .collect::<Vec<_>>();
    if count > LISTED_PROBLEMS {
        list.push(format!("and {} more", count - LISTED_PROBLEMS));
    }
    Err(PluginError::weights(format!(
        "the tensors in {} do not match the model ({}): {}. \
         Check that the weights and the config file belong together",
        listed(ledger.checkpoint.paths()),
        if count == 1 {
            "1 tensor does not fit".to_owned()
        } else {
            format!("{count} tensors do not fit")
        },
        list.join("; ")
    )))
}

impl Scope<'_> {
    /// Returns the scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            ledger: self.ledger,
            prefix: self.full(&name.to_string()),
            precision: self.precision,
        }
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
        self.ledger.checkpoint.mapping()
    }

    /// Returns whether the files contain `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.ledger.checkpoint.get(&self.full(name)).is_some()
    }

    /// Returns the shape of `name` in the files.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.ledger
            .checkpoint
            .get(&self.full(name))
            .map(|tensor| tensor.shape.as_slice())
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Takes `name`. Records a problem and returns `None` if it is missing or unsuitable.
    fn take(&self, name: &str, shape: &[usize]) -> Option<Taken> {
        let full = self.full(name);
        let problem = match self.ledger.checkpoint.get(&full) {
            Some(tensor) if tensor.shape == shape && computable(tensor) => {
                self.ledger.used.borrow_mut().insert(full);
                return Some(Taken::new(tensor));
            }
            Some(tensor) => {
                let problem = if !computable(tensor) {
                    format!(
                        "tensor `{full}` is of {}, expected F32, F16, BF16 or one of ggml's quantised types",
                        tensor.dtype
                    )
                } else {
                    let found = &tensor.shape;
                    format!("tensor `{full}` has shape {found:?}, expected {shape:?}")
                };
                self.ledger.used.borrow_mut().insert(full);
                problem
            }
            None => format!("tensor `{full}` {shape:?} is missing"),
        };
        self.ledger.problems.borrow_mut().push(problem);
        None
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
        let mut all = self.ledger.parameters.borrow_mut();
        all.push(parameter.clone());
        parameter
    }

    /// Returns the number of parameters that were taken so far, in this and in all other scopes.
    pub fn taken(&self) -> u32 {
        self.ledger.parameters.borrow().len() as u32
    }

    /// Returns all parameters that were taken so far, in this and in all other scopes.
    pub fn parameters(&self) -> Parameters {
        Parameters::new(self.ledger.parameters.borrow().clone())
    }

    /// Records a problem if `name` is missing, without taking it. For tensors that belong to the model but
    /// are not used in the computation.
    pub fn require(&self, name: &str) {
        if !self.contains(name) {
            let problem = format!("tensor `{}` is missing", self.full(name));
            self.ledger.problems.borrow_mut().push(problem);
        }
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
