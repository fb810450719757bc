use crate::{
    DType, Device, PluginError, PreprocessSpec, ReadyGradients, TensorBuf, TensorView, Trainable,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The description of an encoder, available before any weight is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EncoderInfo {
    /// D: the width of a feature.
    pub width: u32,
    /// F: frames per clip.
    pub num_frames: u32,
    /// T: temporal positions of the features.
    pub temporal: u32,
    /// S: features per temporal position.
    pub spatial: u32,
    /// How the host prepares frames, and the height and width of a clip.
    pub preprocess: PreprocessSpec,
    /// The dtype that the encoder computes in.
    pub dtype: DType,
    /// The device that the encoder computes on.
    pub device: Device,
    /// Dtypes of clips that the encoder takes beside `f32`, the best first. In a clip of `u8`, pixels are resized but
    /// not normalised: the encoder does it. Only [`crate::ResizeDomain::PILLOW_U8`] allows it.
    #[serde(default)]
    pub clip_dtypes: Vec<DType>,
    /// The number of parameters that take part in the computation.
    pub parameters: u64,
    /// Multiply-accumulate operations for one clip.
    pub macs_per_clip: u64,
    /// The requested options that the encoder honours, with the values in effect. A value is compared with the
    /// requested one as text, so it must be written the same. Options that were not requested may be stated too.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Further properties, for hosts that know them.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
    #[cfg(next_minor)]
    pub sound: bool,
}

impl EncoderInfo {
    /// An encoder in `f32` on the CPU, whose features of width `width` have `temporal` · `spatial` positions.
    pub fn new(
        width: u32,
        num_frames: u32,
        [temporal, spatial]: [u32; 2],
        preprocess: PreprocessSpec,
    ) -> Self {
        Self {
            width,
            num_frames,
            temporal,
            spatial,
            preprocess,
            dtype: DType::F32,
            device: Device::CPU,
            clip_dtypes: Vec::new(),
            parameters: 0,
            macs_per_clip: 0,
            options: BTreeMap::new(),
            extra: BTreeMap::new(),
            #[cfg(next_minor)]
            sound: true,
        }
    }

    /// Sets the dtype that the encoder computes in.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the device that the encoder computes on.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Adds a dtype of clips that the encoder takes.
    #[must_use]
    pub fn clip_dtype(mut self, dtype: DType) -> Self {
        self.clip_dtypes.push(dtype);
        self
    }

    /// Sets the number of parameters and of multiply-accumulate operations for one clip.
    #[must_use]
    pub fn cost(mut self, parameters: u64, macs_per_clip: u64) -> Self {
        (self.parameters, self.macs_per_clip) = (parameters, macs_per_clip);
        self
    }

    /// States that an option is honoured, with the value in effect.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl ToString) -> Self {
        self.options.insert(key.to_owned(), value.to_string());
        self
    }

    /// Returns height and width of a clip, in pixels.
    pub fn image_size(&self) -> u32 {
        self.preprocess.image_size
    }
}

/// A batch of clips, borrowed from the host for one call.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Clips<'a> {
    /// `[batch, num_frames, 3, image_size, image_size]` of `f32`, or of a dtype in [`EncoderInfo::clip_dtypes`].
    pub pixels: TensorView<'a>,
    /// `[batch · num_frames]`: the time at which each frame is shown, in seconds from the start of the video; that of
    /// frame `f` of clip `b` is at `b · num_frames + f`. It is NaN where it is not known, as in a folder of images. An
    /// empty slice means that no time is known.
    pub seconds: &'a [f64],
}

impl<'a> Clips<'a> {
    /// Clips whose times are not known.
    pub fn new(pixels: TensorView<'a>) -> Self {
        Self {
            pixels,
            seconds: &[],
        }
    }

    /// Adds the time of each frame, in seconds.
    ///
    /// # Errors
    ///
    /// When there is not one time for each frame.
    pub fn at(self, seconds: &'a [f64]) -> Result<Self, PluginError> {
        let frames: usize = self.pixels.shape().iter().take(2).product();
        if seconds.is_empty() || seconds.len() == frames {
            return Ok(Self { seconds, ..self });
        }
        Err(PluginError::invalid(format!(
            "expected the times of {frames} frames, found {}",
            seconds.len()
        )))
    }
}

/// A loaded video encoder. It may be called from several threads at the same time.
pub trait Encoder: Send + Sync + 'static {
    /// Returns the description of this encoder. Called once, when the encoder is loaded. It must be the one that
    /// [`crate::Plugin::describe_encoder`] gave for the same request.
    fn info(&self) -> EncoderInfo;

    /// Returns the features of a batch of clips.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` →
    /// `[batch, temporal * spatial, width]` of `f32`, in main memory, or on the encoder's device if the encoder has
    /// [`crate::feature::DEVICE_TENSORS`].
    ///
    /// # Errors
    ///
    /// When the shape or dtype differs from [`Self::info`], or the computation fails.
    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError>;
}

/// An encoder that can also be trained.
pub trait TrainableEncoder: Encoder + Trainable {
    /// What a forward pass records for the backward pass.
    type Tape: Send + 'static;

    /// Does the same as [`Encoder::encode`] and also records what [`Self::backward`] needs: copies, because the clips
    /// are borrowed. Several tapes may exist at the same time.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` →
    /// `[batch, temporal * spatial, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// As for [`Encoder::encode`], and when training has not begun.
    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, Self::Tape), PluginError>;

    /// Propagates `gradient`, the gradient of the features, and adds the result to the gradients of the
    /// parameters. The parameters must not have changed since the tape was recorded.
    ///
    /// # Shapes
    ///
    /// `[batch, temporal * spatial, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When the shape or dtype differs from that of the features, or the computation fails, and the error of
    /// `ready`.
    fn backward(
        &self,
        tape: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError>;
}
