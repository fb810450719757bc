//! Video encoders: clips in, features out.

use crate::{
    DType, PluginError, PreprocessSpec, TensorBuf, TensorView, guard::guard, guard::guarded_drop,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult},
    type_level::downcasting::TD_Opaque,
};

/// What an encoder is, known before any weight is read.
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
    /// How frames become a clip.
    pub preprocess: PreprocessSpec,
    /// What the encoder computes in.
    pub dtype: DType,
    /// Parameters that take part in the computation.
    pub parameters: u64,
    /// Multiply-accumulate operations for one clip.
    pub macs_per_clip: u64,
}

/// A loaded video encoder. It may be called from several threads at once.
pub trait Encoder: Send + Sync + 'static {
    /// What this encoder is. Asked once, when it is loaded.
    fn info(&self) -> EncoderInfo;

    /// Features of a batch of clips.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` of `f32` →
    /// `[batch, temporal * spatial, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When the shape or dtype is not what [`Self::info`] promises, or the computation fails.
    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf, PluginError>;
}

#[sabi_trait]
#[doc(hidden)]
pub trait EncoderAbi: Send + Sync {
    fn info(&self) -> EncoderInfo;
    #[sabi(last_prefix_field)]
    fn encode(&self, clips: TensorView<'_>) -> RResult<TensorBuf, PluginError>;
}

struct EncoderAdapter<E: Encoder> {
    /// Asked for at construction, inside the guard of `load_encoder`: `info` itself cannot fail.
    info: EncoderInfo,
    model: Option<E>,
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
}

impl<E: Encoder> Drop for EncoderAdapter<E> {
    fn drop(&mut self) {
        guarded_drop(self.model.take());
    }
}

/// An encoder behind the ABI: what `load_encoder` returns and the host calls.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct EncoderObject(EncoderAbi_TO<'static, RBox<()>>);

impl EncoderObject {
    /// Wraps an encoder for the journey across the boundary.
    pub fn new<E: Encoder>(model: E) -> Self {
        let adapter = EncoderAdapter {
            info: model.info(),
            model: Some(model),
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
    /// As [`Encoder::encode`], and [`crate::ErrorKind::Panic`].
    pub fn encode(&self, clips: TensorView<'_>) -> Result<TensorBuf, PluginError> {
        self.0.encode(clips).into_result()
    }
}
