//! Training: the parameters of a model that a plugin keeps, their gradients and the optimizer's state.
//!
//! Automatic differentiation stops at the boundary. A plugin differentiates its own model; the host hands
//! gradients of outputs in ([`crate::TrainableEncoder::backward`]) and gets gradients of inputs out
//! ([`crate::TrainableLanguageModel::forward_backward`]), and continues its own graph, the mixer's, with
//! them. Parameters never cross but to be looked at ([`Trainable::visit_gradients`]), saved and restored
//! ([`Trainable::export`], [`Trainable::import`]).
//!
//! The order of things is the host's affair: `begin_training` once; then, step by step, any number of
//! forward and backward passes, whose gradients add up; a look at the gradients (for their norm, or a sum
//! over machines); `apply_adamw`; `clear_gradients`.

use crate::{PluginError, TensorView, guard::guard, guard::guarded_drop};
use abi_stable::{
    RMut, StableAbi, sabi_trait,
    std_types::{RArc, RResult, RSliceMut, RStr, RString, RVec},
    type_level::downcasting::TD_Opaque,
};
use std::sync::Arc;

/// How a model is going to be trained.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingOptions {
    /// Whether the model's parameters are trained. If not, it stays as it is, and only gradients of its
    /// inputs are computed.
    pub trainable: bool,
    /// Whether a layer's intermediate results are computed again in the backward pass instead of being
    /// kept: less memory, a third more time. A model that cannot may ignore it; the numbers are the same.
    pub checkpoint_activations: bool,
}

/// A trainable parameter.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Its name upstream, as in the weights file.
    pub name: RString,
    /// Its shape upstream.
    pub shape: RVec<usize>,
}

/// One step of AdamW (arXiv 1711.05101; `torch.optim.AdamW`), in `f32`.
///
/// With `g` the accumulated gradient times [`Self::gradient_scale`]: `w ← w − learning_rate ·
/// weight_decay · w` for parameters of two or more dimensions that are not biases; `m ← β₁m + (1−β₁)g`;
/// `v ← β₂v + (1−β₂)g²`; `w ← w − learning_rate · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε)`.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// t: the number of this step. The first is 1.
    pub step: u64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// β₁: 0.9, usually.
    pub beta1: f64,
    /// β₂: 0.999, usually.
    pub beta2: f64,
    /// ε: 1e-8, usually.
    pub epsilon: f64,
    /// The weight decay, decoupled from the gradient.
    pub weight_decay: f64,
    /// What the accumulated gradients are multiplied by first: one over the tokens, times what clipping
    /// leaves of the norm.
    pub gradient_scale: f64,
}

/// What of a parameter is saved or restored: each a tensor of the parameter's shape, in `f32`.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatePart {
    /// The parameter itself.
    Weights,
    /// AdamW's running mean of the gradient.
    FirstMoment,
    /// AdamW's running mean of the squared gradient.
    SecondMoment,
}

/// Called for each parameter with its name and its gradient, which it may change.
pub type VisitGradient<'a> = dyn FnMut(&str, &mut [f32]) -> Result<(), PluginError> + 'a;

/// Called for each parameter with its name and a tensor of `f32`.
pub type TakeTensor<'a> = dyn FnMut(&str, TensorView<'_>) -> Result<(), PluginError> + 'a;

/// The parameters of a model, kept in the plugin. Until [`Self::begin_training`] there are none.
///
/// As every method of the API, these may be called from any thread. A computation that runs beside one that
/// changes parameters may see some of them before and others after: the host keeps the two apart. Every
/// later computation uses the changed weights; what was computed before stays as it is (the keys and
/// values of an open session, the features of a clip).
pub trait Trainable: Send + Sync + 'static {
    /// Prepares for training: makes the parameters changeable, if they are to be trained. May be called
    /// again: a model that was not to be trained may become trainable, and checkpointing may change.
    ///
    /// # Errors
    ///
    /// When the model cannot be trained (quantised weights, say), or is trainable already and is now not
    /// to be.
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError>;

    /// The trainable parameters, in an order that does not change; none when the model is not trainable.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError>;

    /// Shows every parameter's accumulated gradient, in the order of [`Self::parameters`]; zeros where
    /// nothing has come in since [`Self::clear_gradients`]. What `visit` changes is what
    /// [`Self::apply_adamw`] will see. `visit` must not call into the plugin.
    ///
    /// # Errors
    ///
    /// When training has not begun; and what `visit` returns, which ends the visit.
    fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<(), PluginError>;

    /// Sets all gradients to zero.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    fn clear_gradients(&self) -> Result<(), PluginError>;

    /// Changes every parameter by its gradient. The gradients stay.
    ///
    /// # Errors
    ///
    /// When training has not begun or `step` makes no sense; nothing is changed then.
    fn apply_adamw(&self, step: &AdamWStep) -> Result<(), PluginError>;

    /// Hands out one part of the state of every parameter, in the order of [`Self::parameters`].
    /// `take` must not call into the plugin.
    ///
    /// # Errors
    ///
    /// When training has not begun; and what `take` returns, which ends the export.
    fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<(), PluginError>;

    /// Restores one part of the state of one parameter, bit for bit what [`Self::export`] handed out.
    ///
    /// # Errors
    ///
    /// When training has not begun, there is no such parameter, or it has another shape.
    fn import(
        &self,
        part: StatePart,
        name: &str,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError>;
}

/// A closure of the host's, lent to the plugin for one call.
#[sabi_trait]
#[doc(hidden)]
pub trait VisitGradientAbi {
    #[sabi(last_prefix_field)]
    fn call(&mut self, name: RStr<'_>, gradient: RSliceMut<'_, f32>) -> RResult<(), PluginError>;
}

/// As [`VisitGradientAbi`].
#[sabi_trait]
#[doc(hidden)]
pub trait TakeTensorAbi {
    #[sabi(last_prefix_field)]
    fn call(&mut self, name: RStr<'_>, values: TensorView<'_>) -> RResult<(), PluginError>;
}

#[sabi_trait]
#[doc(hidden)]
pub trait TrainableAbi: Send + Sync {
    fn begin_training(&self, options: TrainingOptions) -> RResult<(), PluginError>;
    fn parameters(&self) -> RResult<RVec<ParameterInfo>, PluginError>;
    fn visit_gradients(
        &self,
        visit: VisitGradientAbi_TO<'_, RMut<'_, ()>>,
    ) -> RResult<(), PluginError>;
    fn clear_gradients(&self) -> RResult<(), PluginError>;
    fn apply_adamw(&self, step: AdamWStep) -> RResult<(), PluginError>;
    fn export(
        &self,
        part: StatePart,
        take: TakeTensorAbi_TO<'_, RMut<'_, ()>>,
    ) -> RResult<(), PluginError>;
    #[sabi(last_prefix_field)]
    fn import(
        &self,
        part: StatePart,
        name: RStr<'_>,
        values: TensorView<'_>,
    ) -> RResult<(), PluginError>;
}

/// The host's closures on their way to the plugin: their panics must not cross either.
struct Lent<'a, F: ?Sized>(&'a mut F);

impl VisitGradientAbi for Lent<'_, VisitGradient<'_>> {
    fn call(
        &mut self,
        name: RStr<'_>,
        mut gradient: RSliceMut<'_, f32>,
    ) -> RResult<(), PluginError> {
        guard("the host's visit of a gradient", || {
            (self.0)(name.as_str(), gradient.as_mut_slice())
        })
    }
}

impl TakeTensorAbi for Lent<'_, TakeTensor<'_>> {
    fn call(&mut self, name: RStr<'_>, values: TensorView<'_>) -> RResult<(), PluginError> {
        guard("the host's taking of a tensor", || {
            (self.0)(name.as_str(), values)
        })
    }
}

struct TrainableAdapter<M: Trainable>(Option<Arc<M>>);

impl<M: Trainable> TrainableAdapter<M> {
    fn model(&self) -> Result<&M, PluginError> {
        let model = self.0.as_deref();
        model.ok_or_else(|| PluginError::invalid("the model was dropped"))
    }
}

impl<M: Trainable> TrainableAbi for TrainableAdapter<M> {
    fn begin_training(&self, options: TrainingOptions) -> RResult<(), PluginError> {
        guard("begin_training", || self.model()?.begin_training(&options))
    }

    fn parameters(&self) -> RResult<RVec<ParameterInfo>, PluginError> {
        guard("parameters", || Ok(self.model()?.parameters()?.into()))
    }

    fn visit_gradients(
        &self,
        mut visit: VisitGradientAbi_TO<'_, RMut<'_, ()>>,
    ) -> RResult<(), PluginError> {
        guard("visit_gradients", || {
            self.model()?.visit_gradients(&mut |name, gradient| {
                visit.call(name.into(), gradient.into()).into_result()
            })
        })
    }

    fn clear_gradients(&self) -> RResult<(), PluginError> {
        guard("clear_gradients", || self.model()?.clear_gradients())
    }

    fn apply_adamw(&self, step: AdamWStep) -> RResult<(), PluginError> {
        guard("apply_adamw", || self.model()?.apply_adamw(&step))
    }

    fn export(
        &self,
        part: StatePart,
        mut take: TakeTensorAbi_TO<'_, RMut<'_, ()>>,
    ) -> RResult<(), PluginError> {
        guard("export", || {
            self.model()?.export(part, &mut |name, values| {
                take.call(name.into(), values).into_result()
            })
        })
    }

    fn import(
        &self,
        part: StatePart,
        name: RStr<'_>,
        values: TensorView<'_>,
    ) -> RResult<(), PluginError> {
        guard("import", || {
            self.model()?.import(part, name.as_str(), &values)
        })
    }
}

impl<M: Trainable> Drop for TrainableAdapter<M> {
    fn drop(&mut self) {
        guarded_drop(self.0.take());
    }
}

/// The parameters of a model behind the ABI: what [`crate::EncoderObject::training`] and
/// [`crate::LanguageModelObject::training`] return. It keeps the model alive.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct TrainableObject(TrainableAbi_TO<'static, RArc<()>>);

impl TrainableObject {
    /// The parameters of a model that also does other things.
    pub(crate) fn new<M: Trainable>(model: Arc<M>) -> Self {
        let adapter = RArc::new(TrainableAdapter(Some(model)));
        Self(TrainableAbi_TO::from_ptr(adapter, TD_Opaque))
    }

    /// See [`Trainable::begin_training`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::begin_training`], and [`crate::ErrorKind::Panic`]; so for every method here.
    pub fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        self.0.begin_training(*options).into_result()
    }

    /// See [`Trainable::parameters`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::parameters`].
    pub fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        self.0.parameters().into_result().map(RVec::into_vec)
    }

    /// See [`Trainable::visit_gradients`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::visit_gradients`].
    pub fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<(), PluginError> {
        let mut lent = Lent(visit);
        let visit = VisitGradientAbi_TO::from_ptr(&mut lent, TD_Opaque);
        self.0.visit_gradients(visit).into_result()
    }

    /// See [`Trainable::clear_gradients`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::clear_gradients`].
    pub fn clear_gradients(&self) -> Result<(), PluginError> {
        self.0.clear_gradients().into_result()
    }

    /// See [`Trainable::apply_adamw`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::apply_adamw`].
    pub fn apply_adamw(&self, step: &AdamWStep) -> Result<(), PluginError> {
        self.0.apply_adamw(*step).into_result()
    }

    /// See [`Trainable::export`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::export`].
    pub fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<(), PluginError> {
        let mut lent = Lent(take);
        let take = TakeTensorAbi_TO::from_ptr(&mut lent, TD_Opaque);
        self.0.export(part, take).into_result()
    }

    /// See [`Trainable::import`].
    ///
    /// # Errors
    ///
    /// As [`Trainable::import`].
    pub fn import(
        &self,
        part: StatePart,
        name: &str,
        values: TensorView<'_>,
    ) -> Result<(), PluginError> {
        self.0.import(part, name.into(), values).into_result()
    }
}

/// What a model answers that cannot be trained, or was built against an API without training.
pub(crate) fn unsupported<T>() -> RResult<T, PluginError> {
    RResult::RErr(PluginError::unsupported(
        "this model cannot be trained: its plugin does not support it, or was built before plugins could",
    ))
}
