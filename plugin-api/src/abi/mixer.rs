//! [`Mixer`] behind the ABI.

use super::{
    error::{Wire, WireError, answer, receive},
    tapes::{TapeId, Tapes},
    text,
    training::{HostClosure, TrainableObject, WireReady, ready, tell_ready, untrainable},
};
use crate::{
    Call, Mixer, MixerInfo, PluginError, ReadyGradients, TensorBuf, TensorView, TrainableMixer,
    VisualTokens, guarded::Guarded,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, ROption, RResult, RSlice, RString, RVec},
    type_level::downcasting::TD_Opaque,
};
use std::sync::Arc;

/// The fields of [`VisualTokens`].
#[repr(C)]
#[derive(StableAbi)]
pub struct WireVisualTokens {
    tokens: TensorBuf,
    weights: ROption<TensorBuf>,
}

impl From<VisualTokens> for WireVisualTokens {
    fn from(mixed: VisualTokens) -> Self {
        Self {
            tokens: mixed.tokens,
            weights: mixed.weights.into(),
        }
    }
}

impl From<WireVisualTokens> for VisualTokens {
    fn from(mixed: WireVisualTokens) -> Self {
        let tokens = Self::new(mixed.tokens);
        match mixed.weights.into_option() {
            Some(weights) => tokens.weighted(weights),
            None => tokens,
        }
    }
}

/// The visual tokens of a forward pass and its tape.
#[repr(C)]
#[derive(StableAbi)]
pub struct WireVisualTokensAndTape {
    mixed: WireVisualTokens,
    tape: TapeId,
}

#[sabi_trait]
pub trait MixerAbi: Send + Sync {
    /// Returns a [`MixerInfo`] as text.
    fn info(&self) -> RResult<RString, WireError>;
    fn forward(
        &self,
        call: Call,
        features: RSlice<'_, TensorView<'_>>,
    ) -> RResult<WireVisualTokens, WireError>;
    fn training(&self) -> RResult<TrainableObject, WireError>;
    fn forward_train(
        &self,
        call: Call,
        features: RSlice<'_, TensorView<'_>>,
    ) -> RResult<WireVisualTokensAndTape, WireError>;
    fn backward(
        &self,
        call: Call,
        tape: TapeId,
        gradient: TensorView<'_>,
        ready: WireReady<'_>,
    ) -> RResult<RVec<TensorBuf>, WireError>;
    #[sabi(last_prefix_field)]
    fn forget(&self, tape: TapeId);
}

/// The training methods of a mixer, without its type.
trait MixerTraining: Send + Sync {
    fn training(&self) -> TrainableObject;
    fn forward_train(
        &self,
        features: &[TensorView<'_>],
    ) -> Result<WireVisualTokensAndTape, PluginError>;
    fn backward(
        &self,
        tape: TapeId,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError>;
    fn forget(&self, tape: TapeId);
}

struct WithTapes<M: TrainableMixer> {
    model: Arc<M>,
    tapes: Tapes<M::Tape>,
}

impl<M: TrainableMixer> MixerTraining for WithTapes<M> {
    fn training(&self) -> TrainableObject {
        TrainableObject::new(Arc::clone(&self.model))
    }

    fn forward_train(
        &self,
        features: &[TensorView<'_>],
    ) -> Result<WireVisualTokensAndTape, PluginError> {
        let (mixed, tape) = self.model.forward_train(features)?;
        Ok(WireVisualTokensAndTape {
            mixed: mixed.into(),
            tape: self.tapes.keep(tape),
        })
    }

    fn backward(
        &self,
        tape: TapeId,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError> {
        self.model.backward(self.tapes.take(tape)?, gradient, ready)
    }

    fn forget(&self, tape: TapeId) {
        self.tapes.forget(tape);
    }
}

struct Adapter<M: Mixer> {
    info: Result<MixerInfo, PluginError>,
    model: Guarded<Arc<M>>,
    training: Option<Guarded<Box<dyn MixerTraining>>>,
}

impl<M: Mixer> Adapter<M> {
    fn training(&self) -> Result<&dyn MixerTraining, PluginError> {
        match &self.training {
            Some(training) => Ok(&**training.get()?),
            None => Err(untrainable()),
        }
    }
}

impl<M: Mixer> MixerAbi for Adapter<M> {
    fn info(&self) -> Wire<RString> {
        answer("info", || {
            text::write(self.info.as_ref().map_err(Clone::clone)?)
        })
    }

    fn forward(&self, call: Call, features: RSlice<'_, TensorView<'_>>) -> Wire<WireVisualTokens> {
        answer("forward", || {
            let model = self.model.get()?;
            let mixed = call.serve(|| model.forward(features.as_slice()))?;
            Ok(mixed.into())
        })
    }

    fn training(&self) -> Wire<TrainableObject> {
        answer("training", || Ok(self.training()?.training()))
    }

    fn forward_train(
        &self,
        call: Call,
        features: RSlice<'_, TensorView<'_>>,
    ) -> Wire<WireVisualTokensAndTape> {
        answer("forward_train", || {
            let model = self.training()?;
            call.serve(|| model.forward_train(features.as_slice()))
        })
    }

    fn backward(
        &self,
        call: Call,
        tape: TapeId,
        gradient: TensorView<'_>,
        mut ready: WireReady<'_>,
    ) -> Wire<RVec<TensorBuf>> {
        answer("backward", || {
            let model = self.training()?;
            let gradients =
                call.serve(|| model.backward(tape, &gradient, &mut tell_ready(&mut ready)))?;
            Ok(gradients.into())
        })
    }

    fn forget(&self, tape: TapeId) {
        if let Ok(training) = self.training() {
            training.forget(tape);
        }
    }
}

/// A mixer behind the ABI. `load_mixer` returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct MixerObject(MixerAbi_TO<'static, RBox<()>>);

impl MixerObject {
    /// Wraps a mixer for the host.
    pub fn new<M: Mixer>(model: M) -> Self {
        Self::wrap(Guarded::new(Arc::new(model)), None)
    }

    /// Wraps a mixer that can be trained.
    pub fn trainable<M: TrainableMixer>(model: M) -> Self {
        let model = Arc::new(model);
        let training = WithTapes {
            model: Arc::clone(&model),
            tapes: Tapes::new(),
        };
        Self::wrap(Guarded::new(model), Some(Guarded::new(Box::new(training))))
    }

    fn wrap<M: Mixer>(
        model: Guarded<Arc<M>>,
        training: Option<Guarded<Box<dyn MixerTraining>>>,
    ) -> Self {
        // `info` is called here, inside the guard of `load_mixer`. If it panics, the models are dropped guarded.
        let info = model.get().map(|model| model.info());
        let adapter = Adapter {
            info,
            model,
            training,
        };
        Self(MixerAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`Mixer::info`].
    ///
    /// # Errors
    ///
    /// When this version cannot read the description.
    pub fn info(&self) -> Result<MixerInfo, PluginError> {
        text::received(self.0.info())
    }

    /// See [`Mixer::forward`].
    ///
    /// # Errors
    ///
    /// As for [`Mixer::forward`], and [`crate::ErrorKind::PANIC`].
    pub fn forward(
        &self,
        call: Call,
        features: &[TensorView<'_>],
    ) -> Result<VisualTokens, PluginError> {
        receive(self.0.forward(call, features.into())).map(VisualTokens::from)
    }

    /// Returns the parameters, for training.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::UNSUPPORTED`] when the mixer cannot be trained. The methods below return the
    /// same error.
    pub fn training(&self) -> Result<TrainableObject, PluginError> {
        receive(self.0.training())
    }

    /// See [`TrainableMixer::forward_train`]. Returns the tape for [`Self::backward`], which consumes it, or
    /// [`Self::forget`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableMixer::forward_train`].
    pub fn forward_train(
        &self,
        call: Call,
        features: &[TensorView<'_>],
    ) -> Result<(VisualTokens, TapeId), PluginError> {
        let result = receive(self.0.forward_train(call, features.into()))?;
        Ok((result.mixed.into(), result.tape))
    }

    /// See [`TrainableMixer::backward`]. The tape is consumed, even by an error.
    ///
    /// # Errors
    ///
    /// As for [`TrainableMixer::backward`], and when the tape does not exist.
    pub fn backward(
        &self,
        call: Call,
        tape: TapeId,
        gradient: TensorView<'_>,
        on_ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError> {
        let mut closure = HostClosure(on_ready);
        let gradients = self.0.backward(call, tape, gradient, ready(&mut closure));
        receive(gradients).map(RVec::into_vec)
    }

    /// Drops a tape. An unknown id is ignored.
    pub fn forget(&self, tape: TapeId) {
        self.0.forget(tape);
    }
}
