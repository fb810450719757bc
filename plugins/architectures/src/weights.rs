//! The weights of a model, taken from its files by name.
//!
//! A model is built inside [`load`], which collects all tensors that are missing, unused or of another shape
//! and reports them in one error. Missing values are never filled in.

use crate::Result;
use merv_checkpoint::{Checkpoint, CheckpointError, Mapping, StoredTensor};
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
}

/// A prefix of tensor names, which are nested as in `torch.nn.Module`.
#[derive(Clone)]
pub struct Scope<'a> {
    ledger: &'a Ledger,
    prefix: String,
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
    unused: &[impl AsRef<str>],
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
    unused: &[impl AsRef<str>],
    build: impl FnOnce(Scope<'_>) -> Result<T>,
) -> Result<T> {
    let ledger = Ledger {
        checkpoint,
        used: RefCell::default(),
        problems: RefCell::default(),
    };
    let model = build(Scope {
        ledger: &ledger,
        prefix: String::new(),
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
            .map(AsRef::as_ref)
            .any(|known| name == known || (known.ends_with('.') && name.starts_with(known)));
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

impl<'a> Scope<'a> {
    /// Returns the scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            ledger: self.ledger,
            prefix: self.full(&name.to_string()),
        }
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
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.ledger
            .checkpoint
            .get(&self.full(name))
            .map(|tensor| tensor.shape.as_slice())
    }

    /// Returns the whole name of the tensor `name` below this scope.
    pub fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Takes `name`. `unusable` tells what is wrong with a tensor's elements, if the backend cannot use them. Records a
    /// problem and returns `None` if the tensor is missing, unusable or of another shape.
    pub fn take(
        &self,
        name: &str,
        shape: &[usize],
        unusable: impl FnOnce(&StoredTensor) -> Option<String>,
    ) -> Option<&'a StoredTensor> {
        let full = self.full(name);
        let Some(tensor) = self.ledger.checkpoint.get(&full) else {
            self.problem(format!("tensor `{full}` {shape:?} is missing"));
            return None;
        };
        let problem = match unusable(tensor) {
            Some(reason) => Some(format!("tensor `{full}` {reason}")),
            None if tensor.shape != shape => {
                let found = &tensor.shape;
                Some(format!(
                    "tensor `{full}` has shape {found:?}, expected {shape:?}"
                ))
            }
            None => None,
        };
        self.ledger.used.borrow_mut().insert(full);
        match problem {
            Some(problem) => {
                self.problem(problem);
                None
            }
            None => Some(tensor),
        }
    }

    /// Records a problem if `name` is missing, without taking it. For tensors that belong to the model but
    /// are not used in the computation.
    pub fn require(&self, name: &str) {
        if !self.contains(name) {
            self.problem(format!("tensor `{}` is missing", self.full(name)));
        }
    }

    fn problem(&self, problem: String) {
        self.ledger.problems.borrow_mut().push(problem);
    }
}
