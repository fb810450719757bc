//! Training: the parameters of a plugin's model, their gradients and the optimizer state.
//!
//! Automatic differentiation stops at the boundary. A plugin differentiates its own model. The host passes
//! it gradients of outputs ([`crate::TrainableEncoder::backward`]) and receives gradients of inputs
//! ([`crate::TrainableLanguageModel::forward_backward`]), with which it continues its own graph, the
//! mixer's. Parameters stay in the plugin, on its device. The host only borrows views of them
//! ([`Trainable::visit`]), and saves and restores their state ([`Trainable::export`], [`Trainable::import`]).
//!
//! The host controls the order of calls. It calls `begin_training` once. In each step it runs any number
//! of forward and backward passes, whose gradients accumulate, visits the gradients (to sum them over processes),
//! asks for their norm, and calls `apply_adamw` and `clear_gradients`.
//!
//! Work on the optimizer state may be divided between processes: [`Trainable::gradient_squares`],
//! [`Trainable::apply_adamw`], [`Trainable::export`] and [`Trainable::import`] take [`Ranges`] of elements.

use crate::{PluginError, TensorView, TensorViewMut, code::open_code};
use abi_stable::StableAbi;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};

/// How to train a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingOptions {
    /// Whether the model's parameters are trained. If not, they do not change, and only gradients of the
    /// model's inputs are computed.
    pub trainable: bool,
    /// Whether a layer's intermediate results are recomputed in the backward pass instead of being kept.
    /// This takes less memory and a third more time; the results are the same. A model that does not
    /// support it may ignore it.
    #[serde(default)]
    pub checkpoint_activations: bool,
    /// Whether a mixer computes the gradients of its features. They are not needed if no encoder before it is trained.
    /// Other models ignore this.
    #[serde(default = "yes")]
    pub input_gradients: bool,
    /// Further settings (adapters, seeds), for plugins that know them. A plugin refuses those that it does not know,
    /// because training without them would be another training.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

impl TrainingOptions {
    /// Options for a model whose parameters are trained or frozen.
    pub fn new(trainable: bool) -> Self {
        Self {
            trainable,
            checkpoint_activations: false,
            input_gradients: true,
            extra: BTreeMap::new(),
        }
    }

    /// Sets whether intermediate results are recomputed.
    #[must_use]
    pub fn checkpoint_activations(mut self, checkpoint: bool) -> Self {
        self.checkpoint_activations = checkpoint;
        self
    }

    /// Sets whether a mixer computes the gradients of its features.
    #[must_use]
    pub fn input_gradients(mut self, input_gradients: bool) -> Self {
        self.input_gradients = input_gradients;
        self
    }
}

fn yes() -> bool {
    true
}

/// A trainable parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// Its upstream name, as in the weights file.
    pub name: String,
    /// Its upstream shape.
    pub shape: Vec<usize>,
}

impl ParameterInfo {
    /// A parameter.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
        }
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.shape
            .iter()
            .fold(1, |product, &size| usize::saturating_mul(product, size))
    }
}

/// One step of AdamW (arXiv 1711.05101; `torch.optim.AdamW`), in `f32`.
///
/// With `g` the accumulated gradient times [`Self::gradient_scale`]: `w ← w − learning_rate · weight_decay · w` for
/// parameters of two or more dimensions whose names do not end in `bias`; `m ← β₁m + (1−β₁)g`; `v ← β₂v + (1−β₂)g²`;
/// `w ← w − learning_rate · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdamWStep {
    /// t: the number of this step, from 1.
    pub step: u64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// β₁, usually 0.9.
    pub beta1: f64,
    /// β₂, usually 0.999.
    pub beta2: f64,
    /// ε, usually 1e-8.
    pub epsilon: f64,
    /// The weight decay, decoupled from the gradient.
    pub weight_decay: f64,
    /// The factor that the accumulated gradients are multiplied by first: one over the number of tokens,
    /// times the clipping factor.
    pub gradient_scale: f64,
}

impl AdamWStep {
    /// Step `step` with PyTorch's defaults, but without weight decay.
    pub fn new(step: u64, learning_rate: f64) -> Self {
        Self {
            step,
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            gradient_scale: 1.0,
        }
    }

    /// Sets β₁ and β₂.
    #[must_use]
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.beta1, self.beta2) = (beta1, beta2);
        self
    }

    /// Sets ε.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the factor of the gradients.
    #[must_use]
    pub fn gradient_scale(mut self, gradient_scale: f64) -> Self {
        self.gradient_scale = gradient_scale;
        self
    }

    /// Checks the numbers. Implementations of [`Trainable::apply_adamw`] call this before they change anything.
    ///
    /// # Errors
    ///
    /// When the step is 0, a beta is not from 0 to below 1, or a number is not finite.
    pub fn check(&self) -> Result<(), PluginError> {
        let is_share = |beta: f64| (0.0..1.0).contains(&beta);
        let finite = [
            self.learning_rate,
            self.epsilon,
            self.weight_decay,
            self.gradient_scale,
        ];
        if self.step > 0
            && is_share(self.beta1)
            && is_share(self.beta2)
            && finite.iter().all(|number| number.is_finite())
        {
            return Ok(());
        }
        Err(PluginError::invalid(format!(
            "expected a step from 1 on, betas from 0 to below 1 and finite numbers, found step {}, betas {} and {}, \
             epsilon {}, learning rate {}, weight decay {}, gradient scale {}",
            self.step,
            self.beta1,
            self.beta2,
            self.epsilon,
            self.learning_rate,
            self.weight_decay,
            self.gradient_scale
        )))
    }
}

open_code! {
    /// A part of a parameter's state: a tensor of the parameter's shape, in `f32`.
    StatePart, "part of the state" {
        /// The parameter itself.
        WEIGHTS = 1, "weights";
        /// The accumulated gradient. It is visited, not exported.
        GRADIENT = 2, "gradient";
        /// AdamW's running mean of the gradient.
        FIRST_MOMENT = 3, "first moment";
        /// AdamW's running mean of the squared gradient.
        SECOND_MOMENT = 4, "second moment";
    }
}

/// Some elements of one parameter, counted in its upstream layout.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParameterRange {
    /// The parameter's place in [`Trainable::parameters`].
    pub parameter: u32,
    /// The first element.
    pub start: u64,
    /// The element after the last one.
    pub end: u64,
}

impl ParameterRange {
    /// All elements of a parameter.
    pub fn whole(parameter: u32, elements: usize) -> Self {
        Self {
            parameter,
            start: 0,
            end: elements as u64,
        }
    }

    /// Finds the parameter and the elements of the range. `describe` returns the name of a parameter and its number of
    /// elements.
    ///
    /// # Errors
    ///
    /// When there is no such parameter, or it does not have these elements.
    pub fn find<'p, P>(
        &self,
        parameters: &'p [P],
        describe: impl Fn(&P) -> (&str, usize),
    ) -> Result<(&'p P, Range<usize>), PluginError> {
        let parameter = parameters.get(self.parameter as usize).ok_or_else(|| {
            PluginError::invalid(format!(
                "parameter {} does not exist: {} parameters are trained",
                self.parameter,
                parameters.len()
            ))
        })?;
        let (name, count) = describe(parameter);
        let end = self.end.min(count as u64);
        if self.end != end || self.start > end {
            return Err(PluginError::invalid(format!(
                "`{name}` has {count} elements, found the range {}..{}",
                self.start, self.end
            )));
        }
        Ok((parameter, self.start as usize..end as usize))
    }
}

/// The elements that a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges<'a> {
    /// All elements of all parameters.
    All,
    /// These elements. They do not overlap, and are in ascending order.
    Only(&'a [ParameterRange]),
}

/// Called with a place in [`Trainable::parameters`] and a view of one part of the parameter's state, on the model's
/// device. The callback may change the elements.
pub type VisitTensor<'a> = dyn FnMut(u32, TensorViewMut<'_>) -> Result<(), PluginError> + 'a;

/// Called with a place in [`Trainable::parameters`] and a tensor of `f32` in main memory.
pub type TakeTensor<'a> = dyn FnMut(u32, TensorView<'_>) -> Result<(), PluginError> + 'a;

/// Called during a backward pass with places in [`Trainable::parameters`], as soon as that pass will not add to the
/// gradients of these parameters any more, so that they can be sent while the rest is computed. Any thread may call it, one
/// at a time. A pass names every trained parameter once. The exception is an embedding table, to which
/// [`crate::TrainableLanguageModel::backward_embed`] adds afterwards.
pub type ReadyGradients<'a> = dyn FnMut(&[u32]) -> Result<(), PluginError> + Send + 'a;

/// The trainable parameters of a model. They exist in the plugin, from [`Self::begin_training`] on.
///
/// Like every method of the API, these may be called from any thread. A computation that runs while
/// parameters change may use old values of some and new values of others, so the host does not run both
/// at the same time. Later computations use the changed weights. Earlier results (the keys and values of
/// an open session, the features of a clip) do not change.
///
/// The methods take `&self`, so a plugin keeps the parameters behind a lock. A callback must not call into the plugin,
/// and the plugin must not keep what it passes. If the parameters are frozen, every method concerns no parameters.
pub trait Trainable: Send + Sync + 'static {
    /// Prepares for training: makes the parameters changeable, if `options` requests it. May be called
    /// again to make the model trainable or to change checkpointing.
    ///
    /// # Errors
    ///
    /// When the model cannot be trained (for example, because its weights are quantised), or when it is
    /// already trainable and `options` requests the opposite.
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError>;

    /// Returns the trainable parameters in a fixed order, or none when the model is not trainable.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError>;

    /// Calls `visit` with one part of the state, in the order of [`Self::parameters`]: with the whole of every parameter
    /// in its shape, or with each range, `[elements]`. Gradients to which nothing was added since
    /// [`Self::clear_gradients`] are zeros. The plugin uses the elements as `visit` leaves them.
    ///
    /// The host may visit gradients that a backward pass has named as ready ([`ReadyGradients`]) from another thread, while
    /// that pass goes on. A plugin that cannot give access to them yet makes the visit wait.
    ///
    /// # Errors
    ///
    /// When training has not begun, the plugin does not have that part or a range does not exist, and when `visit` returns
    /// an error, which stops the visit.
    fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError>;

    /// Returns the sum of the squares of the gradients of some elements, in double precision.
    ///
    /// # Errors
    ///
    /// When training has not begun or a range does not exist.
    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError>;

    /// Sets all gradients to zero.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    fn clear_gradients(&self) -> Result<(), PluginError>;

    /// Updates some elements from their gradients. The gradients do not change.
    ///
    /// # Errors
    ///
    /// When training has not begun, a value of `step` is invalid or a range does not exist. Nothing is changed then.
    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError>;

    /// Calls `take` with one part of the state, in the order of [`Self::parameters`]: with the whole of every
    /// parameter in its shape, or with each range, `[elements]`.
    ///
    /// # Errors
    ///
    /// When training has not begun or a range does not exist, and when `take` returns an error, which stops the
    /// export.
    fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError>;

    /// Restores one part of the state of some elements of one parameter, bit for bit as [`Self::export`] passed it.
    ///
    /// # Errors
    ///
    /// When training has not begun, the range does not exist, or `values` does not have as many elements.
    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError>;
}
