//! Notes of a forward pass, and the way back through them.

use crate::{Result, kernels::backward::add};
use candle_core::{Tensor, TensorId};
use merv_plugin_api::{ErrorKind, PluginError};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

/// What one layer does in the backward pass, with the gradient of its result.
type Step = Box<dyn FnOnce(Vec<f32>, &mut Flow) -> Result<()> + Send>;

struct Note {
    /// For messages.
    layer: &'static str,
    result: TensorId,
    step: Step,
}

/// The notes of one forward pass.
#[derive(Default)]
pub struct Tape {
    notes: Vec<Note>,
    /// The tensors that gradients are wanted of.
    wanted: HashSet<TensorId>,
}

thread_local! {
    /// The tape of the forward pass that runs on this thread.
    static RECORDING: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Puts `tape` in the place of the one that runs on this thread while `body` runs; returns it as `body` has
/// left it.
fn with_tape<R>(tape: Option<Tape>, body: impl FnOnce() -> R) -> (R, Option<Tape>) {
    /// Also when `body` panics, which is caught at the plugin's boundary.
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

/// Runs `forward` and keeps what its backward pass needs; `inputs` are the tensors whose gradients are
/// wanted.
///
/// # Errors
///
/// What `forward` returns.
pub fn record<R>(inputs: &[&Tensor], forward: impl FnOnce() -> Result<R>) -> Result<(R, Tape)> {
    let tape = Tape {
        notes: Vec::new(),
        wanted: inputs.iter().map(|input| input.id()).collect(),
    };
    let (result, tape) = with_tape(Some(tape), forward);
    Ok((result?, tape.unwrap_or_default()))
}

/// Whether this thread runs a forward pass of which a backward pass will be wanted.
pub(crate) fn recording() -> bool {
    RECORDING.with_borrow(Option::is_some)
}

/// Notes how to go back through a layer from the gradient of `result`, if a backward pass will be wanted
/// and either the layer is `trained` or a gradient of one of `inputs` is wanted.
///
/// `step` gets the gradient of `result` and a [`Flow`] that takes those of the inputs.
pub fn note(
    layer: &'static str,
    inputs: &[&Tensor],
    result: &Tensor,
    trained: bool,
    step: impl FnOnce(Vec<f32>, &mut Flow) -> Result<()> + Send + 'static,
) {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(tape) = recording
            && (trained || inputs.iter().any(|input| tape.wanted.contains(&input.id())))
        {
            let result = result.id();
            tape.wanted.insert(result);
            tape.notes.push(Note {
                layer,
                result,
                step: Box::new(step),
            });
        }
    });
}

/// The gradients that wait to be used on the way back.
pub struct Flow {
    gradients: HashMap<TensorId, Vec<f32>>,
    wanted: HashSet<TensorId>,
}

impl Flow {
    /// Whether the gradient of a tensor is wanted.
    pub fn wants(&self, tensor: TensorId) -> bool {
        self.wanted.contains(&tensor)
    }

    /// Adds to the gradient of a tensor.
    pub fn add(&mut self, tensor: TensorId, gradient: Vec<f32>) {
        if self.wants(tensor) {
            match self.gradients.get_mut(&tensor) {
                Some(sum) => add(sum, &gradient),
                None => {
                    self.gradients.insert(tensor, gradient);
                }
            }
        }
    }

    /// As [`Self::add`], by a function that writes `length` elements, which are zero, or adds to them when it
    /// is told so.
    pub fn update(
        &mut self,
        tensor: TensorId,
        length: usize,
        write: impl FnOnce(&mut [f32], bool),
    ) {
        if self.wants(tensor) {
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

    /// The gradient of a tensor, if any has come.
    pub fn take(&mut self, tensor: &Tensor) -> Option<Vec<f32>> {
        self.gradients.remove(&tensor.id())
    }
}

impl Tape {
    /// Goes back from `gradient`, that of `result`: adds to the gradients of all trained parameters and
    /// returns those of the inputs. What the forward pass kept is freed on the way.
    ///
    /// # Errors
    ///
    /// When a step fails, or a layer gets no gradient: then something between it and `result` left no note.
    pub fn backward(mut self, result: TensorId, gradient: Vec<f32>) -> Result<Flow> {
        let mut flow = Flow {
            gradients: HashMap::from([(result, gradient)]),
            wanted: self.wanted,
        };
        while let Some(Note {
            layer,
            result,
            step,
        }) = self.notes.pop()
        {
            let gradient = flow.gradients.remove(&result).ok_or_else(|| {
                PluginError::new(
                    ErrorKind::Internal,
                    format!(
                        "no gradient reached a layer ({layer}): what came after it left no note"
                    ),
                )
            })?;
            step(gradient, &mut flow)?;
        }
        Ok(flow)
    }
}

/// Runs `layer` on `x`; in training it is run again in the backward pass, so that nothing of it needs to be
/// kept but `x` (gradient checkpointing, arXiv 1604.06174). `trained` tells whether it has parameters that
/// are.
///
/// # Errors
///
/// What `layer` returns.
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
