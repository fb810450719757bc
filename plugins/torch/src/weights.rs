//! Weights that are copied from mapped files to the device of a model.

use crate::{
    failure::Result,
    learned::{Learned, Parameter},
    placement::Placement,
    tensor::sizes,
};
use merv_architectures::{
    checkpoint::{Checkpoint, StoredDtype, StoredTensor},
    precision::Precision,
    weights as names,
};
use merv_plugin_api::{ParameterInfo, PluginError};
use std::{cell::RefCell, path::PathBuf};
use tch::{Kind, Tensor};

/// A prefix of tensor names, which are nested as in `torch.nn.Module`.
#[derive(Clone)]
pub struct Scope<'a> {
    names: names::Scope<'a>,
    loaded: &'a Loaded,
    placement: Placement,
}

/// What was taken so far, in the order in which the model took it.
#[derive(Default)]
struct Loaded {
    parameters: RefCell<Vec<Parameter>>,
    /// The first error of libtorch. The tensor of that parameter is not the right one.
    failure: RefCell<Option<PluginError>>,
}

/// Maps `paths` and builds a network from their tensors. `unused` lists the tensors that it does not take.
pub fn load<N>(
    paths: &[PathBuf],
    unused: &[impl AsRef<str>],
    placement: Placement,
    build: impl FnOnce(&Scope<'_>) -> Result<N>,
) -> Result<(N, Learned)> {
    let checkpoint = names::open(paths, |name| Some(name.to_owned()))?;
    load_checkpoint(checkpoint, unused, placement, build)
}

/// As [`load`], for a checkpoint that is already open.
pub fn load_checkpoint<N>(
    checkpoint: Checkpoint,
    unused: &[impl AsRef<str>],
    placement: Placement,
    build: impl FnOnce(&Scope<'_>) -> Result<N>,
) -> Result<(N, Learned)> {
    let loaded = Loaded::default();
    let network = names::load_checkpoint(checkpoint, unused, |names| {
        let scope = Scope {
            names,
            loaded: &loaded,
            placement,
        };
        let network = build(&scope)?;
        match loaded.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(network),
        }
    })?;
    let learned = Learned::new(loaded.parameters.take(), placement.device);
    Ok((network, learned))
}

impl<'a> Scope<'a> {
    /// Returns the scope below `name`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            names: self.names.pp(name),
            ..*self
        }
    }

    /// Returns the scope below `name`, if there is one.
    pub fn below(&self, name: Option<&str>) -> Self {
        name.map_or_else(|| self.clone(), |name| self.pp(name))
    }

    /// Returns the same scope for layers that always compute in `f32`.
    pub fn exact(&self) -> Self {
        let placement = Placement {
            precision: Precision::F32,
            ..self.placement
        };
        Self {
            placement,
            ..self.clone()
        }
    }

    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Returns whether the files contain `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns the shape of `name` in the files.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.names.shape(name)
    }

    /// Records a problem if `name` is missing, without taking it.
    pub fn require(&self, name: &str) {
        self.names.require(name);
    }

    /// Returns the number of parameters that were taken so far, in this and in all other scopes.
    pub fn taken(&self) -> usize {
        self.loaded.parameters.borrow().len()
    }

    /// Takes an operand of matrix products, in the precision of the scope. Records a problem if it is missing or unsuitable.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Tensor {
        self.take(name, shape, self.placement.operands())
    }

    /// Takes a tensor that is used in `f32`: a norm's scale, a position embedding.
    pub fn vector(&self, name: &str, shape: &[usize]) -> Tensor {
        self.take(name, shape, Kind::Float)
    }

    fn take(&self, name: &str, shape: &[usize], kind: Kind) -> Tensor {
        let weights = self.constant(name, shape, kind);
        self.loaded.parameters.borrow_mut().push(Parameter {
            info: ParameterInfo::new(self.names.full(name), shape),
            is_used: true,
            weights: weights.shallow_clone(),
        });
        weights
    }

    /// Takes a tensor that is never trained.
    pub fn constant(&self, name: &str, shape: &[usize], kind: Kind) -> Tensor {
        let stored = self.names.take(name, shape, unusable);
        let copied = stored.map(|stored| copied(stored, self.placement.torch(), kind));
        match copied {
            Some(Ok(weights)) => weights,
            // What is wrong is recorded: nothing computes with this tensor.
            None => stand_in(shape, kind),
            Some(Err(failure)) => {
                let mut first = self.loaded.failure.borrow_mut();
                first.get_or_insert(failure.into());
                stand_in(shape, kind)
            }
        }
    }
}

/// Returns a tensor that takes no memory, whatever its shape.
fn stand_in(shape: &[usize], kind: Kind) -> Tensor {
    let zero = Tensor::f_zeros([1], (kind, tch::Device::Cpu));
    let tensor = zero.and_then(|zero| zero.f_expand(sizes(shape), false));
    tensor.unwrap_or_else(|_| Tensor::new())
}

/// Tells what is wrong with the elements of a tensor, if they cannot be used.
fn unusable(tensor: &StoredTensor) -> Option<String> {
    match tensor.dtype {
        StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16 => None,
        StoredDtype::Quantized(_) => Some(format!(
            "is quantised ({}), but this plugin computes with F32, F16 and BF16; use the plugin that computes with \
             candle, or weights that are not quantised",
            tensor.dtype
        )),
        other => Some(format!("is of {other}, expected F32, F16 or BF16")),
    }
}

fn copied(stored: &StoredTensor, device: tch::Device, kind: Kind) -> Result<Tensor> {
    let found = match stored.dtype {
        StoredDtype::F16 => Kind::Half,
        StoredDtype::BF16 => Kind::BFloat16,
        _ => Kind::Float,
    };
    let bytes = stored.read();
    let copied = Tensor::f_from_data_size(&bytes, &sizes(&stored.shape), found)?;
    // The conversion runs on the device, and less is copied there if the file has smaller numbers.
    Ok(copied.f_to(device)?.f_to_kind(kind)?)
}
