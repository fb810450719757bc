//! Training: the parameters of a plugin's model, their gradients and the optimizer state.
//!
//! Automatic differentiation stops at the boundary. A plugin differentiates its own model. The host passes
//! it gradients of outputs ([`crate::TrainableEncoder::backward`]) and receives gradients of inputs
//! ([`crate::TrainableLanguageModel::forward_backward`]), with which it continues its own graph, the
//! mixer's. Parameters stay in the plugin. The host only sees their gradients
//! ([`Trainable::visit_gradients`]), and saves and restores their state ([`Trainable::export`],
//! [`Trainable::import`]).
//!
//! The host controls the order of calls. It calls `begin_training` once. In each step it runs any number
//! of forward and backward passes, whose gradients accumulate, visits the gradients (for their norm, or to
//! sum them over machines), and calls `apply_adamw` and `clear_gradients`.

use crate::{PluginError, TensorView, guard::guard, guard::guarded_drop};
use abi_stable::{
    RMut, StableAbi, sabi_trait,
    std_types::{RArc, RResult, RSliceMut, RStr, RString, RVec},
    type_level::downcasting::TD_Opaque,
};
use std::sync::Arc;

/// How to train a model.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingOptions {
    /// Whether the model's parameters are trained. If not, they do not change, and only gradients of the
    /// model's inputs are computed.
    pub trainable: bool,
    /// Whether a layer's intermediate results are recomputed in the backward pass instead of being kept.
    /// This takes less memory and a third more time; the results are the same. A model that does not
    /// support it may ignore it.
    pub checkpoint_activations: bool,
}

/// A trainable parameter.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Its upstream name, as in the weights file.
    pub name: RString,
    /// Its upstream shape.
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

/// A part of a parameter's state: a tensor of the parameter's shape, in `f32`.
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

/// Called for each parameter with its name and its gradient, which the callback may change.
pub type VisitGradient<'a> = dyn FnMut(&str, &mut [f32]) -> Result<(), PluginError> + 'a;

/// Called for each parameter with its name and a tensor of `f32`.
pub type TakeTensor<'a> = dyn FnMut(&str, TensorView<'_>) -> Result<(), PluginError> + 'a;

/// The trainable parameters of a model. They exist in the plugin, from [`Self::begin_training`] on.
///
/// Like every method of the API, these may be called from any thread. A computation that runs while
/// parameters change may use old values of some and new values of others, so the host does not run both
/// at the same time. Later computations use the changed weights. Earlier results (the keys and values of
/// an open session, the features of a clip) do not change.
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

    /// Calls `visit` with every parameter's accumulated gradient, in the order of [`Self::parameters`].
    /// Gradients to which nothing was added since [`Self::clear_gradients`] are zeros.
    /// [`Self::apply_adamw`] uses the gradients as `visit` leaves them. `visit` must not call into the
    /// plugin.
    ///
    /// # Errors
    ///
    /// When training has not begun, and when `visit` returns an error, which stops the visit.
    fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<(), PluginError>;

    /// Sets all gradients to zero.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    fn clear_gradients(&self) -> Result<(), PluginError>;

    /// Updates every parameter from its gradient. The gradients do not change.
    ///
    /// # Errors
    ///
    /// When training has not begun or a value of `step` is invalid. Nothing is changed then.
    fn apply_adamw(&self, step: &AdamWStep) -> Result<(), PluginError>;

    /// Calls `take` with one part of the state of every parameter, in the order of [`Self::parameters`].
    /// `take` must not call into the plugin.
    ///
    /// # Errors
    ///
    /// When training has not begun, and when `take` returns an error, which stops the export.
    fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<(), PluginError>;

    /// Restores one part of the state of one parameter, bit for bit as [`Self::export`] passed it.
    ///
    /// # Errors
    ///
    /// When training has not begun, the parameter does not exist, or its shape differs.
    fn import(
        &self,
        part: StatePart,
        name: &str,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError>;
}

/// A closure of the host that the plugin borrows for one call.
#[sabi_trait]
#[doc(hidden)]
pub trait VisitGradientAbi {
    #[sabi(last_prefix_field)]
    fn call(&mut self, name: RStr<'_>, gradient: RSliceMut<'_, f32>) -> RResult<(), PluginError>;
}

/// A closure of the host that the plugin borrows for one call.
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

/// A closure of the host with a guard: its panics must not cross the boundary either.
struct HostClosure<'a, F: ?Sized>(&'a mut F);

impl VisitGradientAbi for HostClosure<'_, VisitGradient<'_>> {
    fn call(
        &mut self,
        name: RStr<'_>,
        mut gradient: RSliceMut<'_, f32>,
    ) -> RResult<(), PluginError> {
        guard("the host's callback for gradients", || {
            (self.0)(name.as_str(), gradient.as_mut_slice())
        })
    }
}

impl TakeTensorAbi for HostClosure<'_, TakeTensor<'_>> {
    fn call(&mut self, name: RStr<'_>, values: TensorView<'_>) -> RResult<(), PluginError> {
        guard("the host's callback for exported tensors", || {
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

/// The parameters of a model behind the ABI. [`crate::EncoderObject::training`] and
/// [`crate::LanguageModelObject::training`] return it. It keeps the model alive.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct TrainableObject(TrainableAbi_TO<'static, RArc<()>>);

impl TrainableObject {
    /// Wraps the parameters of a model that is shared with its other objects.
    pub(crate) fn new<M: Trainable>(model: Arc<M>) -> Self {
        let adapter = RArc::new(TrainableAdapter(Some(model)));
        Self(TrainableAbi_TO::from_ptr(adapter, TD_Opaque))
    }

    /// See [`Trainable::begin_training`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::begin_training`], and [`crate::ErrorKind::Panic`], which every method here may
    /// return.
    pub fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        self.0.begin_training(*options).into_result()
    }

    /// See [`Trainable::parameters`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::parameters`].
    pub fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        self.0.parameters().into_result().map(RVec::into_vec)
    }

    /// See [`Trainable::visit_gradients`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::visit_gradients`].
    pub fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<(), PluginError> {
        let mut closure = HostClosure(visit);
        let visit = VisitGradientAbi_TO::from_ptr(&mut closure, TD_Opaque);
        self.0.visit_gradients(visit).into_result()
    }

    /// See [`Trainable::clear_gradients`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::clear_gradients`].
    pub fn clear_gradients(&self) -> Result<(), PluginError> {
        self.0.clear_gradients().into_result()
    }

    /// See [`Trainable::apply_adamw`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::apply_adamw`].
    pub fn apply_adamw(&self, step: &AdamWStep) -> Result<(), PluginError> {
        self.0.apply_adamw(*step).into_result()
    }

    /// See [`Trainable::export`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::export`].
    pub fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<(), PluginError> {
        let mut closure = HostClosure(take);
        let take = TakeTensorAbi_TO::from_ptr(&mut closure, TD_Opaque);
        self.0.export(part, take).into_result()
    }

    /// See [`Trainable::import`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::import`].
    pub fn import(
        &self,
        part: StatePart,
        name: &str,
        values: TensorView<'_>,
    ) -> Result<(), PluginError> {
        self.0.import(part, name.into(), values).into_result()
    }
}

/// Returns the error of a model that cannot be trained or was built against an API without training.
pub(crate) fn unsupported<T>() -> RResult<T, PluginError> {
    RResult::RErr(PluginError::unsupported(
        "this model cannot be trained: its plugin does not support training, or was built for an older \
         version of the plugin API",
    ))
}
