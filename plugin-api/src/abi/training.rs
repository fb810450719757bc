//! [`Trainable`] behind the ABI.

use super::{
    error::{Wire, WireError, answer, receive},
    text,
};
use crate::{
    AdamWStep, ParameterInfo, ParameterRange, PluginError, Ranges, ReadyGradients, StatePart,
    TakeTensor, TensorView, TensorViewMut, Trainable, TrainingOptions, VisitTensor,
    guarded::Guarded,
};
use abi_stable::{
    RMut, StableAbi, sabi_trait,
    std_types::{RArc, RResult, RSlice, RStr, RString},
    type_level::downcasting::TD_Opaque,
};
use std::sync::Arc;

/// A closure of the host that the plugin borrows for one call.
#[sabi_trait]
pub trait VisitTensorAbi {
    #[sabi(last_prefix_field)]
    fn call(&mut self, parameter: u32, values: TensorViewMut<'_>) -> RResult<(), WireError>;
}

/// A closure of the host that the plugin borrows for one call.
#[sabi_trait]
pub trait TakeTensorAbi {
    #[sabi(last_prefix_field)]
    fn call(&mut self, parameter: u32, values: TensorView<'_>) -> RResult<(), WireError>;
}

/// A closure of the host that the plugin borrows for one call.
#[sabi_trait]
pub trait ReadyGradientsAbi: Send {
    #[sabi(last_prefix_field)]
    fn call(&mut self, parameters: RSlice<'_, u32>) -> RResult<(), WireError>;
}

pub(super) type WireReady<'a> = ReadyGradientsAbi_TO<'a, RMut<'a, ()>>;

/// [`Ranges`]: all, or a list.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct WireRanges<'a> {
    all: bool,
    list: RSlice<'a, ParameterRange>,
}

impl<'a> From<Ranges<'a>> for WireRanges<'a> {
    fn from(ranges: Ranges<'a>) -> Self {
        let (all, list) = match ranges {
            Ranges::All => (true, RSlice::EMPTY),
            Ranges::Only(list) => (false, list.into()),
        };
        Self { all, list }
    }
}

impl<'a> From<WireRanges<'a>> for Ranges<'a> {
    fn from(ranges: WireRanges<'a>) -> Self {
        match ranges.all {
            true => Self::All,
            false => Self::Only(ranges.list.as_slice()),
        }
    }
}

#[sabi_trait]
pub trait TrainableAbi: Send + Sync {
    /// Takes [`TrainingOptions`] as text.
    fn begin_training(&self, options: RStr<'_>) -> RResult<(), WireError>;
    /// Returns a list of [`ParameterInfo`] as text.
    fn parameters(&self) -> RResult<RString, WireError>;
    fn visit(
        &self,
        part: StatePart,
        ranges: WireRanges<'_>,
        visit: VisitTensorAbi_TO<'_, RMut<'_, ()>>,
    ) -> RResult<(), WireError>;
    fn gradient_squares(&self, ranges: WireRanges<'_>) -> RResult<f64, WireError>;
    fn clear_gradients(&self) -> RResult<(), WireError>;
    /// Takes an [`AdamWStep`] as text.
    fn apply_adamw(&self, step: RStr<'_>, ranges: WireRanges<'_>) -> RResult<(), WireError>;
    fn export(
        &self,
        part: StatePart,
        ranges: WireRanges<'_>,
        take: TakeTensorAbi_TO<'_, RMut<'_, ()>>,
    ) -> RResult<(), WireError>;
    #[sabi(last_prefix_field)]
    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: TensorView<'_>,
    ) -> RResult<(), WireError>;
}

/// A closure of the host with a guard: its panics must not cross the boundary either.
pub(super) struct HostClosure<'a, F: ?Sized>(pub &'a mut F);

impl VisitTensorAbi for HostClosure<'_, VisitTensor<'_>> {
    fn call(&mut self, parameter: u32, values: TensorViewMut<'_>) -> Wire<()> {
        answer("the host's callback for tensors", || {
            (self.0)(parameter, values)
        })
    }
}

impl TakeTensorAbi for HostClosure<'_, TakeTensor<'_>> {
    fn call(&mut self, parameter: u32, values: TensorView<'_>) -> Wire<()> {
        answer("the host's callback for exported tensors", || {
            (self.0)(parameter, values)
        })
    }
}

impl ReadyGradientsAbi for HostClosure<'_, ReadyGradients<'_>> {
    fn call(&mut self, parameters: RSlice<'_, u32>) -> Wire<()> {
        answer("the host's callback for gradients", || {
            (self.0)(parameters.as_slice())
        })
    }
}

/// Wraps the host's callback for one call.
pub(super) fn ready<'a>(closure: &'a mut HostClosure<'_, ReadyGradients<'_>>) -> WireReady<'a> {
    ReadyGradientsAbi_TO::from_ptr(closure, TD_Opaque)
}

/// Calls the host's callback from a plugin.
pub(super) fn tell_ready<'a>(
    ready: &'a mut WireReady<'_>,
) -> impl FnMut(&[u32]) -> Result<(), PluginError> + Send + 'a {
    |parameters| receive(ready.call(parameters.into()))
}

struct Adapter<M: Trainable>(Guarded<Arc<M>>);

impl<M: Trainable> TrainableAbi for Adapter<M> {
    fn begin_training(&self, options: RStr<'_>) -> Wire<()> {
        answer("begin_training", || {
            let options: TrainingOptions = text::read(options.as_str())?;
            self.0.get()?.begin_training(&options)
        })
    }

    fn parameters(&self) -> Wire<RString> {
        answer("parameters", || text::write(&self.0.get()?.parameters()?))
    }

    fn visit(
        &self,
        part: StatePart,
        ranges: WireRanges<'_>,
        mut visit: VisitTensorAbi_TO<'_, RMut<'_, ()>>,
    ) -> Wire<()> {
        answer("visit", || {
            let model = self.0.get()?;
            model.visit(part, ranges.into(), &mut |parameter, values| {
                receive(visit.call(parameter, values))
            })
        })
    }

    fn gradient_squares(&self, ranges: WireRanges<'_>) -> Wire<f64> {
        answer("gradient_squares", || {
            self.0.get()?.gradient_squares(ranges.into())
        })
    }

    fn clear_gradients(&self) -> Wire<()> {
        answer("clear_gradients", || self.0.get()?.clear_gradients())
    }

    fn apply_adamw(&self, step: RStr<'_>, ranges: WireRanges<'_>) -> Wire<()> {
        answer("apply_adamw", || {
            let step: AdamWStep = text::read(step.as_str())?;
            self.0.get()?.apply_adamw(&step, ranges.into())
        })
    }

    fn export(
        &self,
        part: StatePart,
        ranges: WireRanges<'_>,
        mut take: TakeTensorAbi_TO<'_, RMut<'_, ()>>,
    ) -> Wire<()> {
        answer("export", || {
            let model = self.0.get()?;
            model.export(part, ranges.into(), &mut |parameter, values| {
                receive(take.call(parameter, values))
            })
        })
    }

    fn import(&self, part: StatePart, range: ParameterRange, values: TensorView<'_>) -> Wire<()> {
        answer("import", || self.0.get()?.import(part, range, &values))
    }
}

/// The parameters of a model behind the ABI. [`crate::EncoderObject::training`],
/// [`crate::LanguageModelObject::training`] and others return it. It keeps the model alive.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct TrainableObject(TrainableAbi_TO<'static, RArc<()>>);

impl TrainableObject {
    /// Wraps the parameters of a model that is shared with its other objects.
    pub(super) fn new<M: Trainable>(model: Arc<M>) -> Self {
        let adapter = RArc::new(Adapter(Guarded::new(model)));
        Self(TrainableAbi_TO::from_ptr(adapter, TD_Opaque))
    }

    /// See [`Trainable::begin_training`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::begin_training`], and [`crate::ErrorKind::PANIC`], which every method here may
    /// return.
    pub fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        receive(self.0.begin_training(text::write(options)?.as_rstr()))
    }

    /// See [`Trainable::parameters`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::parameters`].
    pub fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        text::received(self.0.parameters())
    }

    /// See [`Trainable::visit`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::visit`].
    pub fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        let mut closure = HostClosure(visit);
        let visit = VisitTensorAbi_TO::from_ptr(&mut closure, TD_Opaque);
        receive(self.0.visit(part, ranges.into(), visit))
    }

    /// See [`Trainable::gradient_squares`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::gradient_squares`].
    pub fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        receive(self.0.gradient_squares(ranges.into()))
    }

    /// See [`Trainable::clear_gradients`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::clear_gradients`].
    pub fn clear_gradients(&self) -> Result<(), PluginError> {
        receive(self.0.clear_gradients())
    }

    /// See [`Trainable::apply_adamw`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::apply_adamw`].
    pub fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        let step = text::write(step)?;
        receive(self.0.apply_adamw(step.as_rstr(), ranges.into()))
    }

    /// See [`Trainable::export`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::export`].
    pub fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        let mut closure = HostClosure(take);
        let take = TakeTensorAbi_TO::from_ptr(&mut closure, TD_Opaque);
        receive(self.0.export(part, ranges.into(), take))
    }

    /// See [`Trainable::import`].
    ///
    /// # Errors
    ///
    /// As for [`Trainable::import`].
    pub fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: TensorView<'_>,
    ) -> Result<(), PluginError> {
        receive(self.0.import(part, range, values))
    }
}

/// Returns the error of a model that cannot be trained or was built against an API without training.
pub(super) fn untrainable() -> PluginError {
    PluginError::unsupported("this model cannot be trained: its plugin does not support training")
}
