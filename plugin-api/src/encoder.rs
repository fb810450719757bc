//! Video encoders: clips in, features out.

use crate::{
    DType, PluginError, PreprocessSpec, TensorBuf, TensorView, Trainable, TrainableObject,
    guard::{guard, guarded_drop},
    training::unsupported,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult},
    type_level::downcasting::TD_Opaque,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The description of an encoder, available before any weight is read.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq)]
pub struct EncoderInfo {
    /// D: the width of a feature.
    pub width: u32,
    /// F: frames per clip.
    pub num_frames: u32,
    /// Height and width of a clip, in pixels.
    pub image_size: u32,
    /// T: temporal positions of the features.
    pub temporal: u32,
    /// S: features per temporal position.
    pub spatial: u32,
    /// How the host prepares frames.
    pub preprocess: PreprocessSpec,
    /// The dtype that the encoder computes in.
    pub dtype: DType,
    /// The number of parameters that take part in the computation.
    pub parameters: u64,
    /// Multiply-accumulate operations for one clip.
    pub macs_per_clip: u64,
}

/// A loaded video encoder. It may be called from several threads at the same time.
pub trait Encoder: Send + Sync + 'static {
    /// Returns the description of this encoder. Called once, when the encoder is loaded.
    fn info(&self) -> EncoderInfo;

    /// Returns the features of a batch of clips.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` of `f32` →
    /// `[batch, temporal * spatial, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When the shape or dtype differs from [`Self::info`], or the computation fails.
    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf, PluginError>;
}

/// An encoder that can also be trained.
pub trait TrainableEncoder: Encoder + Trainable {
    /// What a forward pass records for the backward pass.
    type Tape: Send + 'static;

    /// Does the same as [`Encoder::encode`] and also records what [`Self::backward`] needs.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` of `f32` →
    /// `[batch, temporal * spatial, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// As for [`Encoder::encode`], and when training has not begun.
    fn forward_train(&self, clips: &TensorView<'_>)
    -> Result<(TensorBuf, Self::Tape), PluginError>;

    /// Propagates `gradient`, the gradient of the features, and adds the result to the gradients of the
    /// parameters. The parameters must not have changed since the tape was recorded.
    ///
    /// # Shapes
    ///
    /// `[batch, temporal * spatial, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When the shape or dtype differs from that of the features, or the computation fails.
    fn backward(&self, tape: Self::Tape, gradient: &TensorView<'_>) -> Result<(), PluginError>;
}

/// Identifies the tape of one forward pass.
pub type TapeId = u64;

/// The result of [`EncoderObject::forward_train`].
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct FeaturesAndTape {
    /// `[batch, temporal * spatial, width]` of `f32`.
    pub features: TensorBuf,
    /// The tape, for [`EncoderObject::backward`], which consumes it, or [`EncoderObject::forget`].
    pub tape: TapeId,
}

#[sabi_trait]
#[doc(hidden)]
pub trait EncoderAbi: Send + Sync {
    fn info(&self) -> EncoderInfo;
    #[sabi(last_prefix_field)]
    fn encode(&self, clips: TensorView<'_>) -> RResult<TensorBuf, PluginError>;
    // Since 1.1.
    fn training(&self) -> RResult<TrainableObject, PluginError> {
        unsupported()
    }
    fn forward_train(&self, _clips: TensorView<'_>) -> RResult<FeaturesAndTape, PluginError> {
        unsupported()
    }
    fn backward(&self, _tape: TapeId, _gradient: TensorView<'_>) -> RResult<(), PluginError> {
        unsupported()
    }
    fn forget(&self, _tape: TapeId) {}
}

struct EncoderAdapter<E: Encoder> {
    /// Read at construction, inside the guard of `load_encoder`, because `info` itself cannot report a panic.
    info: EncoderInfo,
    model: Option<Arc<E>>,
    training: Option<Box<dyn EncoderTraining>>,
}

/// The training methods of an encoder, without its type.
trait EncoderTraining: Send + Sync {
    fn training(&self) -> TrainableObject;
    fn forward_train(&self, clips: &TensorView<'_>) -> Result<FeaturesAndTape, PluginError>;
    fn backward(&self, tape: TapeId, gradient: &TensorView<'_>) -> Result<(), PluginError>;
    fn forget(&self, tape: TapeId);
}

/// Stores a model's tapes by id, so that only ids cross the boundary.
struct Tapes<E: TrainableEncoder> {
    model: Arc<E>,
    tapes: Mutex<HashMap<TapeId, E::Tape>>,
    next: AtomicU64,
}

impl<E: TrainableEncoder> Tapes<E> {
    fn take(&self, id: TapeId) -> Option<E::Tape> {
        // Entries are only inserted and removed, so a panic cannot leave the table half changed.
        let mut tapes = self.tapes.lock().unwrap_or_else(PoisonError::into_inner);
        tapes.remove(&id)
    }
}

impl<E: TrainableEncoder> EncoderTraining for Tapes<E> {
    fn training(&self) -> TrainableObject {
        TrainableObject::new(Arc::clone(&self.model))
    }

    fn forward_train(&self, clips: &TensorView<'_>) -> Result<FeaturesAndTape, PluginError> {
        let (features, tape) = self.model.forward_train(clips)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tapes = self.tapes.lock().unwrap_or_else(PoisonError::into_inner);
        tapes.insert(id, tape);
        Ok(FeaturesAndTape { features, tape: id })
    }

    fn backward(&self, tape: TapeId, gradient: &TensorView<'_>) -> Result<(), PluginError> {
        let tape = self.take(tape).ok_or_else(|| {
            PluginError::invalid(format!("tape {tape} does not exist or was already used"))
        })?;
        self.model.backward(tape, gradient)
    }

    fn forget(&self, tape: TapeId) {
        guarded_drop(self.take(tape));
    }
}

impl<E: Encoder> EncoderAdapter<E> {
    fn training(&self) -> Result<&dyn EncoderTraining, PluginError> {
        match &self.training {
            Some(training) => Ok(&**training),
            None => unsupported().into_result(),
        }
    }
}

impl<E: Encoder> EncoderAbi for EncoderAdapter<E> {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: TensorView<'_>) -> RResult<TensorBuf, PluginError> {
        guard("encode", || match &self.model {
            Some(model) => model.encode(&clips),
            None => Err(PluginError::invalid("the encoder was dropped")),
        })
    }

    fn training(&self) -> RResult<TrainableObject, PluginError> {
        guard("training", || Ok(self.training()?.training()))
    }

    fn forward_train(&self, clips: TensorView<'_>) -> RResult<FeaturesAndTape, PluginError> {
        guard("forward_train", || self.training()?.forward_train(&clips))
    }

    fn backward(&self, tape: TapeId, gradient: TensorView<'_>) -> RResult<(), PluginError> {
        guard("backward", || self.training()?.backward(tape, &gradient))
    }

    fn forget(&self, tape: TapeId) {
        if let Some(training) = &self.training {
            training.forget(tape);
        }
    }
}

impl<E: Encoder> Drop for EncoderAdapter<E> {
    fn drop(&mut self) {
        guarded_drop(self.training.take());
        guarded_drop(self.model.take());
    }
}

/// An encoder behind the ABI. `load_encoder` returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct EncoderObject(EncoderAbi_TO<'static, RBox<()>>);

impl EncoderObject {
    /// Wraps an encoder for the host.
    pub fn new<E: Encoder>(model: E) -> Self {
        Self::wrap(Arc::new(model), None)
    }

    /// Wraps an encoder that can be trained.
    pub fn trainable<E: TrainableEncoder>(model: E) -> Self {
        let model = Arc::new(model);
        let training = Tapes {
            model: Arc::clone(&model),
            tapes: Mutex::default(),
            next: AtomicU64::new(1),
        };
        Self::wrap(model, Some(Box::new(training)))
    }

    fn wrap<E: Encoder>(model: Arc<E>, training: Option<Box<dyn EncoderTraining>>) -> Self {
        let adapter = EncoderAdapter {
            info: model.info(),
            model: Some(model),
            training,
        };
        Self(EncoderAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`Encoder::info`].
    pub fn info(&self) -> EncoderInfo {
        self.0.info()
    }

    /// See [`Encoder::encode`].
    ///
    /// # Errors
    ///
    /// As for [`Encoder::encode`], and [`crate::ErrorKind::Panic`].
    pub fn encode(&self, clips: TensorView<'_>) -> Result<TensorBuf, PluginError> {
        self.0.encode(clips).into_result()
    }

    /// Returns the parameters, for training.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Unsupported`] when the encoder cannot be trained. The methods below return the
    /// same error.
    pub fn training(&self) -> Result<TrainableObject, PluginError> {
        self.0.training().into_result()
    }

    /// See [`TrainableEncoder::forward_train`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableEncoder::forward_train`].
    pub fn forward_train(&self, clips: TensorView<'_>) -> Result<FeaturesAndTape, PluginError> {
        self.0.forward_train(clips).into_result()
    }

    /// See [`TrainableEncoder::backward`]. The tape is consumed, even by an error.
    ///
    /// # Errors
    ///
    /// As for [`TrainableEncoder::backward`], and when the tape does not exist.
    pub fn backward(&self, tape: TapeId, gradient: TensorView<'_>) -> Result<(), PluginError> {
        self.0.backward(tape, gradient).into_result()
    }

    /// Drops a tape. An unknown id is ignored.
    pub fn forget(&self, tape: TapeId) {
        self.0.forget(tape);
    }
}
