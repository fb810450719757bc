//! A loaded encoder.

use super::{CallError, Training, cancellation::RunningCall};
use merv_plugin_api::{
    Clips, EncoderInfo, EncoderObject, ErrorKind, PluginError, ReadyGradients, TapeId, TensorBuf,
    TensorView,
};

/// A loaded encoder with its names for messages.
pub struct Encoder {
    plugin: String,
    id: String,
    info: EncoderInfo,
    object: EncoderObject,
}

impl Encoder {
    pub(super) fn new(plugin: &str, id: &str, info: EncoderInfo, object: EncoderObject) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info,
            object,
        }
    }

    /// Returns the encoder's description.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Computes the features of a batch of clips. The clips are borrowed, not copied.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` → `[batch, temporal · spatial, width]`
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the features do not have the shape that the plugin described.
    pub fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, CallError> {
        let batch = clips.pixels.shape().first().copied().unwrap_or_default();
        let call = RunningCall::begin();
        let checked = self.object.encode(call.call(), clips);
        let checked = checked.and_then(|features| self.checked(batch, features));
        checked.map_err(|error| self.failed("encode", error))
    }

    /// Returns the parameters for training.
    ///
    /// # Errors
    ///
    /// Returns an error if the encoder cannot be trained.
    pub fn training(&self) -> Result<Training, CallError> {
        match self.object.training() {
            Ok(object) => Ok(Training::new(&self.plugin, &self.id, object)),
            Err(error) => Err(self.failed("train", error)),
        }
    }

    /// Does the same as [`Self::encode`], and keeps the intermediate values for [`Tape::backward`].
    ///
    /// # Errors
    ///
    /// The same as [`Self::encode`]. Also returns an error if training has not begun.
    pub fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, Tape<'_>), CallError> {
        let batch = clips.pixels.shape().first().copied().unwrap_or_default();
        let call = RunningCall::begin();
        let output = self.object.forward_train(call.call(), clips);
        let output = output.map_err(|error| self.failed("encode", error))?;
        // Created before the check, so that the plugin's tape is always freed.
        let tape = Tape {
            encoder: self,
            id: output.tape,
        };
        match self.checked(batch, output.features) {
            Ok(features) => Ok((features, tape)),
            Err(error) => Err(self.failed("encode", error)),
        }
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        CallError::new(&self.plugin, &format!("{doing} with `{}`", self.id), error)
    }

    /// Checks that the features have the shape that the plugin described.
    fn checked(&self, batch: usize, features: TensorBuf) -> Result<TensorBuf, PluginError> {
        let tokens = self.info.temporal as usize * self.info.spatial as usize;
        let expected = [batch, tokens, self.info.width as usize];
        if features.view().shape() == expected && features.view().f32s().is_ok() {
            return Ok(features);
        }
        Err(PluginError::new(
            ErrorKind::INTERNAL,
            format!(
                "a bug in the plugin: it described features of f32 {expected:?} and returned {:?}",
                features.view()
            ),
        ))
    }
}

/// The intermediate values of a forward pass that its backward pass needs. They are stored in the plugin, and
/// freed when the tape is dropped.
pub struct Tape<'e> {
    encoder: &'e Encoder,
    id: TapeId,
}

impl Tape<'_> {
    /// Runs the backward pass for `gradient`, the gradient of the features, and accumulates the gradients of the
    /// parameters. The parameters must not have changed since the forward pass. `ready` is told which gradients are
    /// finished.
    ///
    /// # Shapes
    ///
    /// `[batch, temporal · spatial, width]`
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, and any error of `ready`.
    pub fn backward(
        self,
        gradient: TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), CallError> {
        let (call, object) = (RunningCall::begin(), &self.encoder.object);
        let result = object.backward(call.call(), self.id, gradient, ready);
        result.map_err(|error| self.encoder.failed("run the backward pass", error))
    }
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        // After `backward`, this has no effect.
        self.encoder.object.forget(self.id);
    }
}
