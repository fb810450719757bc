//! Weights, read where their files are mapped into memory.
//!
//! A model is built inside [`load`], which collects every missing, extra or wrongly shaped tensor and
//! reports them together. Nothing is ever filled in.

use crate::{
    Result,
    gradients::{Parameter, Parameters},
    matrix::{Matrix, Taken, computable},
    precision::Precision,
};
use merv_checkpoint::{Checkpoint, CheckpointError, Mapping};
use merv_plugin_api::PluginError;
use std::{cell::RefCell, collections::BTreeSet, error::Error, path::PathBuf};

/// How many problems an error lists before it only counts them.
const LISTED_PROBLEMS: usize = 12;

/// Maps `paths`, in any format that [`Checkpoint`] reads, and renames the tensors; those for which
/// `rename` gives no name belong to another model and are left out.
///
/// # Errors
///
/// When a file cannot be read or is damaged, when two tensors have the same name, and when every tensor
/// belongs to another model.
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
            "{} holds {count} tensors, but none of this model: they belong to other parts (a checkpoint \
             of the align stage holds no language model)",
            listed(renamed.paths())
        )));
    }
    Ok(renamed)
}

fn listed(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// A tensor that tells sizes: the names that it may have, the shape that the config gives it, and the keys of
/// the config which make that shape.
pub type Telling<'a> = (&'a [&'a str], &'a [usize], &'a str);

/// Refuses weights that have other sizes than their config before they are loaded. A tensor that is not
/// there is left to [`load`], and so is everything without `paths`.
///
/// # Errors
///
/// When a file cannot be read, or a tensor has another shape; the message names it, both shapes and the keys.
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
                "{} holds `{name}` of shape {:?}, but {keys} of the model's config make {expected:?}; \
                 correct them, or use the config file that belongs to these weights",
                listed(checkpoint.paths()),
                tensor.shape
            )));
        }
    }
    Ok(())
}

/// What `load` learns while a model takes its tensors.
struct Ledger {
    checkpoint: Checkpoint,
    used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
    /// In the order in which they were taken.
    parameters: RefCell<Vec<Parameter>>,
}

/// A place in the tree of tensor names, as `torch.nn.Module` nests them.
#[derive(Clone)]
pub struct Scope<'a> {
    ledger: &'a Ledger,
    prefix: String,
    precision: Precision,
}

/// Maps `paths` and builds a model from their tensors.
///
/// `unused` names the tensors that the files may hold although `build` does not take them: a name, or
/// a prefix that ends in a dot.
///
/// # Errors
///
/// When a file cannot be read, or is damaged; when `build` fails; and when any tensor is missing, of
/// another shape, or neither taken nor in `unused`: all of them are listed, with expected and found.
pub fn load<T>(
    paths: &[PathBuf],
    unused: &[&str],
    build: impl FnOnce(Scope<'_>) -> Result<T>,
) -> Result<T> {
    let checkpoint = open(paths, |name| Some(name.to_owned()))?;
    load_checkpoint(checkpoint, unused, build)
}

/// As [`load`], from a checkpoint that is open: renamed by [`open`], or looked at before.
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
            // What it would have taken is not known.
            break;
        }
        let known = unused
            .iter()
            .any(|&known| name == known || (known.ends_with('.') && name.starts_with(known)));
        // Position numbers are a buffer that older checkpoints store; no model needs it.
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
        "{} does not hold this model ({}): {}. \
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
    /// The scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            ledger: self.ledger,
            prefix: self.full(&name.to_string()),
            precision: self.precision,
        }
    }

    /// The same scope, whose matrices are multiplied in `precision`; `f32` without.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What matrices are multiplied in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The files, as they are mapped.
    pub fn mapping(&self) -> Mapping {
        self.ledger.checkpoint.mapping()
    }

    /// Whether the files hold `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.ledger.checkpoint.get(&self.full(name)).is_some()
    }

    /// The shape of `name` in the files.
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

    /// Looks `name` up; a problem is noted, and `None` returned.
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

    /// A matrix that stays mapped. `shape` may have more than two dimensions (a convolution's kernel);
    /// all but the first make up the columns.
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

    /// As [`Self::matrix`], to be trained too.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Parameter {
        let matrix = self.matrix(name, shape);
        self.noted(Parameter::mapped(
            self.full(name),
            shape,
            matrix,
            self.precision,
        ))
    }

    /// As [`Self::vector`], to be trained too.
    pub fn small_parameter(&self, name: &str, shape: &[usize]) -> Parameter {
        let values = self.vector(name, shape);
        self.noted(Parameter::copied(self.full(name), shape, values))
    }

    fn noted(&self, parameter: Parameter) -> Parameter {
        let mut all = self.ledger.parameters.borrow_mut();
        all.push(parameter.clone());
        parameter
    }

    /// All parameters that were taken so far, from this scope or any other.
    pub fn parameters(&self) -> Parameters {
        Parameters::new(self.ledger.parameters.borrow().clone())
    }

    /// Notes a problem if `name` is not there, without taking it: for parts that belong to the model but
    /// not to the computation.
    pub fn require(&self, name: &str) {
        if !self.contains(name) {
            let problem = format!("tensor `{}` is missing", self.full(name));
            self.ledger.problems.borrow_mut().push(problem);
        }
    }

    /// A small tensor copied out as `f32`: a bias, a norm's scale, a position embedding. Empty, and noted
    /// as a problem, when it does not fit.
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
