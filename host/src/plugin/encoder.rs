//! A loaded encoder.

use super::{CallError, Training};
use merv_plugin_api::{
    EncoderInfo, EncoderObject, ErrorKind, PluginError, TapeId, TensorBuf, TensorView,
};

/// An encoder of a plugin, and what it is called in messages.
pub struct Encoder {
    plugin: String,
    id: String,
    info: EncoderInfo,
    object: EncoderObject,
}

impl Encoder {
    pub(super) fn new(plugin: &str, id: &str, object: EncoderObject) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info: object.info(),
            object,
        }
    }

    /// What it is.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Features of a batch of clips, which are lent, not copied.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` → `[batch, temporal · spatial, width]`
    ///
    /// # Errors
    ///
    /// The plugin's answer, or that it broke its own promise about the shape.
    pub fn encode(&self, clips: TensorView<'_>) -> Result<TensorBuf, CallError> {
        let batch = clips.shape().first().copied().unwrap_or_default();
        let checked = self.object.encode(clips);
        let checked = checked.and_then(|features| self.checked(batch, features));
        checked.map_err(|error| self.failed("encode", error))
    }

    /// The parameters, to train them.
    ///
    /// # Errors
    ///
    /// When the encoder cannot be trained.
    pub fn training(&self) -> Result<Training, CallError> {
        match self.object.training() {
            Ok(object) => Ok(Training::new(&self.plugin, &self.id, object)),
            Err(error) => Err(self.failed("train", error)),
        }
    }

    /// As [`Self::encode`], and keeps what [`Tape::backward`] needs.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`], and when training has not begun.
    pub fn forward_train(&self, clips: TensorView<'_>) -> Result<(TensorBuf, Tape<'_>), CallError> {
        let batch = clips.shape().first().copied().unwrap_or_default();
        let made = self.object.forward_train(clips);
        let made = made.map_err(|error| self.failed("encode", error))?;
        // From here on it is forgotten, whatever goes wrong.
        let tape = Tape {
            encoder: self,
            id: made.tape,
        };
        match self.checked(batch, made.features) {
            Ok(features) => Ok((features, tape)),
            Err(error) => Err(self.failed("encode", error)),
        }
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        CallError::new(&self.plugin, &format!("{doing} with `{}`", self.id), error)
    }

    /// Features of the shape that the plugin promised.
    fn checked(&self, batch: usize, features: TensorBuf) -> Result<TensorBuf, PluginError> {
        let tokens = self.info.temporal as usize * self.info.spatial as usize;
        let expected = [batch, tokens, self.info.width as usize];
        if features.view().shape() == expected && features.view().f32s().is_ok() {
            return Ok(features);
        }
        Err(PluginError::new(
            ErrorKind::Internal,
            format!(
                "a fault of the plugin: it promised features of f32 {expected:?} and returned {:?}",
                features.view()
            ),
        ))
    }
}

/// What the backward pass of one forward pass needs, kept in the plugin; forgotten when dropped.
pub struct Tape<'e> {
    encoder: &'e Encoder,
    id: TapeId,
}

impl Tape<'_> {
    /// Adds to the parameters' gradients what `gradient`, the gradient of the features, makes of them. The
    /// parameters must not have changed since the tape was made.
    ///
    /// # Shapes
    ///
    /// `[batch, temporal · spatial, width]`
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn backward(self, gradient: TensorView<'_>) -> Result<(), CallError> {
        let answer = self.encoder.object.backward(self.id, gradient);
        answer.map_err(|error| self.encoder.failed("go back", error))
    }
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        // After `backward` there is nothing left to forget.
        self.encoder.object.forget(self.id);
    }
}
