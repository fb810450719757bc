//! [`Encoder`] behind the ABI.

use super::{
    error::{Wire, WireError, answer, receive},
    tapes::{TapeId, Tapes},
    text,
    training::{HostClosure, TrainableObject, WireReady, ready, tell_ready, untrainable},
};
use crate::{
    Call, Clips, Encoder, EncoderInfo, PluginError, ReadyGradients, TensorBuf, TensorView,
    TrainableEncoder, guarded::Guarded,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult, RSlice, RString},
    type_level::downcasting::TD_Opaque,
};
use std::sync::Arc;

/// The features of a forward pass and its tape.
#[repr(C)]
#[derive(StableAbi)]
pub struct WireFeaturesAndTape {
    features: TensorBuf,
    tape: TapeId,
}

/// The result of [`EncoderObject::forward_train`].
#[derive(Debug)]
#[non_exhaustive]
pub struct FeaturesAndTape {
    /// `[batch, temporal * spatial, width]` of `f32`.
    pub features: TensorBuf,
    /// The tape, for [`EncoderObject::backward`], which consumes it, or [`EncoderObject::forget`].
    pub tape: TapeId,
}

#[sabi_trait]
pub trait EncoderAbi: Send + Sync {
    /// Returns an [`EncoderInfo`] as text.
    fn info(&self) -> RResult<RString, WireError>;
    /// Takes the pixels and the times of [`Clips`].
    fn encode(
        &self,
        call: Call,
        pixels: TensorView<'_>,
        seconds: RSlice<'_, f64>,
    ) -> RResult<TensorBuf, WireError>;
    fn training(&self) -> RResult<TrainableObject, WireError>;
    fn forward_train(
        &self,
        call: Call,
        pixels: TensorView<'_>,
        seconds: RSlice<'_, f64>,
    ) -> RResult<WireFeaturesAndTape, WireError>;
    fn backward(
        &self,
        call: Call,
        tape: TapeId,
        gradient: TensorView<'_>,
        ready: WireReady<'_>,
    ) -> RResult<(), WireError>;
    #[sabi(last_prefix_field)]
    fn forget(&self, tape: TapeId);
}

/// The training methods of an encoder, without its type.
trait EncoderTraining: Send + Sync {
    fn training(&self) -> TrainableObject;
    fn forward_train(&self, clips: &Clips<'_>) -> Result<WireFeaturesAndTape, PluginError>;
    fn backward(
        &self,
        tape: TapeId,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError>;
    fn forget(&self, tape: TapeId);
}

struct WithTapes<E: TrainableEncoder> {
    model: Arc<E>,
    tapes: Tapes<E::Tape>,
}

impl<E: TrainableEncoder> EncoderTraining for WithTapes<E> {
    fn training(&self) -> TrainableObject {
        TrainableObject::new(Arc::clone(&self.model))
    }

    fn forward_train(&self, clips: &Clips<'_>) -> Result<WireFeaturesAndTape, PluginError> {
        let (features, tape) = self.model.forward_train(clips)?;
        let tape = self.tapes.keep(tape);
        Ok(WireFeaturesAndTape { features, tape })
    }

    fn backward(
        &self,
        tape: TapeId,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError> {
        self.model.backward(self.tapes.take(tape)?, gradient, ready)
    }

    fn forget(&self, tape: TapeId) {
        self.tapes.forget(tape);
    }
}

struct Adapter<E: Encoder> {
    info: Result<EncoderInfo, PluginError>,
    model: Guarded<Arc<E>>,
    training: Option<Guarded<Box<dyn EncoderTraining>>>,
}

impl<E: Encoder> Adapter<E> {
    fn training(&self) -> Result<&dyn EncoderTraining, PluginError> {
        match &self.training {
            Some(training) => Ok(&**training.get()?),
            None => Err(untrainable()),
        }
    }
}

/// Clips from what crossed the boundary.
fn clips<'a>(pixels: TensorView<'a>, seconds: RSlice<'a, f64>) -> Result<Clips<'a>, PluginError> {
    Clips::new(pixels).at(seconds.as_slice())
}

impl<E: Encoder> EncoderAbi for Adapter<E> {
    fn info(&self) -> Wire<RString> {
        answer("info", || {
            text::write(self.info.as_ref().map_err(Clone::clone)?)
        })
    }

    fn encode(
        &self,
        call: Call,
        pixels: TensorView<'_>,
        seconds: RSlice<'_, f64>,
    ) -> Wire<TensorBuf> {
        answer("encode", || {
            let (model, clips) = (self.model.get()?, clips(pixels, seconds)?);
            call.serve(|| model.encode(&clips))
        })
    }

    fn training(&self) -> Wire<TrainableObject> {
        answer("training", || Ok(self.training()?.training()))
    }

    fn forward_train(
        &self,
        call: Call,
        pixels: TensorView<'_>,
        seconds: RSlice<'_, f64>,
    ) -> Wire<WireFeaturesAndTape> {
        answer("forward_train", || {
            let (model, clips) = (self.training()?, clips(pixels, seconds)?);
            call.serve(|| model.forward_train(&clips))
        })
    }

    fn backward(
        &self,
        call: Call,
        tape: TapeId,
        gradient: TensorView<'_>,
        mut ready: WireReady<'_>,
    ) -> Wire<()> {
        answer("backward", || {
            let model = self.training()?;
            call.serve(|| model.backward(tape, &gradient, &mut tell_ready(&mut ready)))
        })
    }

    fn forget(&self, tape: TapeId) {
        if let Ok(training) = self.training() {
            training.forget(tape);
        }
    }
}

/// An encoder behind the ABI. `load_encoder` returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct EncoderObject(EncoderAbi_TO<'static, RBox<()>>);

impl EncoderObject {
    /// Wraps an encoder for the host.
    pub fn new<E: Encoder>(model: E) -> Self {
        Self::wrap(Guarded::new(Arc::new(model)), None)
    }

    /// Wraps an encoder that can be trained.
    pub fn trainable<E: TrainableEncoder>(model: E) -> Self {
        let model = Arc::new(model);
        let training = WithTapes {
            model: Arc::clone(&model),
            tapes: Tapes::new(),
        };
        Self::wrap(Guarded::new(model), Some(Guarded::new(Box::new(training))))
    }

    fn wrap<E: Encoder>(
        model: Guarded<Arc<E>>,
        training: Option<Guarded<Box<dyn EncoderTraining>>>,
    ) -> Self {
        // `info` is called here, inside the guard of `load_encoder`. If it panics, the models are dropped guarded.
        let info = model.get().map(|model| model.info());
        let adapter = Adapter {
            info,
            model,
            training,
        };
        Self(EncoderAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`Encoder::info`].
    ///
    /// # Errors
    ///
    /// When this version cannot read the description.
    pub fn info(&self) -> Result<EncoderInfo, PluginError> {
        text::received(self.0.info())
    }

    /// See [`Encoder::encode`].
    ///
    /// # Errors
    ///
    /// As for [`Encoder::encode`], and [`crate::ErrorKind::PANIC`].
    pub fn encode(&self, call: Call, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        receive(self.0.encode(call, clips.pixels, clips.seconds.into()))
    }

    /// Returns the parameters, for training.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::UNSUPPORTED`] when the encoder cannot be trained. The methods below return the
    /// same error.
    pub fn training(&self) -> Result<TrainableObject, PluginError> {
        receive(self.0.training())
    }

    /// See [`TrainableEncoder::forward_train`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableEncoder::forward_train`].
    pub fn forward_train(
        &self,
        call: Call,
        clips: &Clips<'_>,
    ) -> Result<FeaturesAndTape, PluginError> {
        let (pixels, seconds) = (clips.pixels, clips.seconds);
        let result = receive(self.0.forward_train(call, pixels, seconds.into()))?;
        Ok(FeaturesAndTape {
            features: result.features,
            tape: result.tape,
        })
    }

    /// See [`TrainableEncoder::backward`]. The tape is consumed, even by an error.
    ///
    /// # Errors
    ///
    /// As for [`TrainableEncoder::backward`], and when the tape does not exist.
    pub fn backward(
        &self,
        call: Call,
        tape: TapeId,
        gradient: TensorView<'_>,
        on_ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError> {
        let mut closure = HostClosure(on_ready);
        receive(self.0.backward(call, tape, gradient, ready(&mut closure)))
    }

    /// Drops a tape. An unknown id is ignored.
    pub fn forget(&self, tape: TapeId) {
        self.0.forget(tape);
    }
}
