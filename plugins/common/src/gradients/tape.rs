//! A tape of the forward pass, and the backward pass through it.

use crate::{Result, kernels::rows::add};
use candle_core::{Tensor, TensorId};
use merv_plugin_api::{ErrorKind, PluginError, ReadyGradients};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    ops::Range,
};

/// The backward pass of one layer, from the gradient of its result.
type Step = Box<dyn FnOnce(Vec<f32>, &mut Flow) -> Result<()> + Send>;

enum Note {
    Layer(Layer),
    /// The layers after it are the only ones that add to the gradients of these parameters.
    Milestone(Range<u32>),
}

struct Layer {
    /// The kind of layer, for error messages.
    layer: &'static str,
    result: TensorId,
    step: Step,
}

/// The notes of one forward pass.
#[derive(Default)]
pub struct Tape {
    notes: Vec<Note>,
    /// The tensors whose gradients are needed.
    needed: HashSet<TensorId>,
}

thread_local! {
    /// The tape of the forward pass that runs on this thread.
    static RECORDING: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Runs `body` with `tape` as the tape of this thread, and returns the tape after `body`.
fn with_tape<R>(tape: Option<Tape>, body: impl FnOnce() -> R) -> (R, Option<Tape>) {
    /// Restores the previous tape, even if `body` panics. The plugin boundary catches panics.
    struct Restore(Option<Tape>);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0.take());
        }
    }
    let _restore = Restore(RECORDING.replace(tape));
    let result = body();
    (result, RECORDING.take())
}

/// Runs `forward` and records what its backward pass needs. `inputs` are the tensors whose gradients are
/// needed.
///
/// # Errors
///
/// The error of `forward`.
pub fn record<R>(inputs: &[&Tensor], forward: impl FnOnce() -> Result<R>) -> Result<(R, Tape)> {
    let tape = Tape {
        notes: Vec::new(),
        needed: inputs.iter().map(|input| input.id()).collect(),
    };
    let (result, tape) = with_tape(Some(tape), forward);
    Ok((result?, tape.unwrap_or_default()))
}

/// Returns whether this thread records a forward pass.
pub(crate) fn recording() -> bool {
    RECORDING.with_borrow(Option::is_some)
}

/// Notes the backward pass of a layer, if this thread records a forward pass and either the layer is
/// `trained` or the gradient of one of `inputs` is needed.
///
/// `step` receives the gradient of `result` and a [`Flow`], to which it adds the gradients of the inputs.
pub fn note(
    layer: &'static str,
    inputs: &[&Tensor],
    result: &Tensor,
    trained: bool,
    step: impl FnOnce(Vec<f32>, &mut Flow) -> Result<()> + Send + 'static,
) {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(tape) = recording
            && (trained || inputs.iter().any(|input| tape.needed.contains(&input.id())))
        {
            let result = result.id();
            tape.needed.insert(result);
            tape.notes.push(Note::Layer(Layer {
                layer,
                result,
                step: Box::new(step),
            }));
        }
    });
}

/// Notes that the layers that follow are the only ones with the parameters in `range` (places in
/// [`merv_plugin_api::Trainable::parameters`]), if this thread records a forward pass. In the backward pass, their
/// gradients are then ready when it comes to this note.
pub fn milestone(range: Range<u32>) {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(tape) = recording {
            tape.notes.push(Note::Milestone(range));
        }
    });
}

/// The gradients that later steps of the backward pass need.
pub struct Flow {
    gradients: HashMap<TensorId, Vec<f32>>,
    needed: HashSet<TensorId>,
}

impl Flow {
    /// Returns whether the gradient of a tensor is needed.
    pub fn needs(&self, tensor: TensorId) -> bool {
        self.needed.contains(&tensor)
    }

    /// Adds to the gradient of a tensor.
    pub fn add(&mut self, tensor: TensorId, gradient: Vec<f32>) {
        if self.needs(tensor) {
            match self.gradients.get_mut(&tensor) {
                Some(sum) => add(sum, &gradient),
                None => {
                    self.gradients.insert(tensor, gradient);
                }
            }
        }
    }

    /// Adds to the gradient of a tensor with a function. It receives `length` zeros to overwrite, or, if its
    /// second argument is true, the gradient so far to add to.
    pub fn update(
        &mut self,
        tensor: TensorId,
        length: usize,
        write: impl FnOnce(&mut [f32], bool),
    ) {
        if self.needs(tensor) {
            match self.gradients.get_mut(&tensor) {
                Some(sum) => write(sum, true),
                None => {
                    let mut gradient = vec![0.0; length];
                    write(&mut gradient, false);
                    self.gradients.insert(tensor, gradient);
                }
            }
        }
    }

    /// Takes the gradient of a tensor, if one was added.
    pub fn take(&mut self, tensor: &Tensor) -> Option<Vec<f32>> {
        self.gradients.remove(&tensor.id())
    }
}

impl Tape {
    /// Runs the backward pass from `gradient`, the gradient of `result`. It adds to the gradients of all
    /// trained parameters and returns those of the inputs. Memory of the forward pass is freed step by step.
    ///
    /// # Errors
    ///
    /// When a step fails, or a layer receives no gradient because an operation between it and `result` was
    /// not noted.
    pub fn backward(self, result: TensorId, gradient: Vec<f32>) -> Result<Flow> {
        self.backward_telling(result, gradient, &mut |_| Ok(()))
    }

    /// Does the same as [`Self::backward`], and calls `ready` at every [`milestone`].
    ///
    /// # Errors
    ///
    /// As for [`Self::backward`], and the error of `ready`.
    pub fn backward_telling(
        mut self,
        result: TensorId,
        gradient: Vec<f32>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Flow> {
        let mut flow = Flow {
            gradients: HashMap::from([(result, gradient)]),
            needed: self.needed,
        };
        while let Some(note) = self.notes.pop() {
            let Layer {
                layer,
                result,
                step,
            } = match note {
                Note::Layer(layer) => layer,
                Note::Milestone(range) => {
                    ready(&range.collect::<Vec<_>>())?;
                    continue;
                }
            };
            let gradient = flow.gradients.remove(&result).ok_or_else(|| {
                PluginError::new(
                    ErrorKind::INTERNAL,
                    format!(
                        "no gradient reached a layer ({layer}): an operation after it was not noted"
                    ),
                )
            })?;
            step(gradient, &mut flow)?;
        }
        Ok(flow)
    }
}

/// Runs `layer` on `x` with gradient checkpointing (arXiv 1604.06174): in training, only `x` is kept, and the
/// layer runs again in the backward pass. `trained` is whether the layer has parameters that are trained.
///
/// # Errors
///
/// The error of `layer`.
pub fn checkpoint(
    x: &Tensor,
    trained: bool,
    layer: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
) -> Result<Tensor> {
    let y = with_tape(None, || layer(x)).0?;
    let input = x.clone();
    note("a checkpoint", &[x], &y, trained, move |gradient, flow| {
        let (y, tape) = record(&[&input], || layer(&input))?;
        let mut inner = tape.backward(y.id(), gradient)?;
        if let Some(gradient) = inner.take(&input) {
            flow.add(input.id(), gradient);
        }
        Ok(())
    });
    Ok(y)
}
