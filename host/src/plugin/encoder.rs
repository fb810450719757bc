//! A loaded encoder.

use super::{CallError, Input, PluginTensor, Training, cancellation::RunningCall, device::Place};
use merv_plugin_api::{
    Clips, EncoderInfo, EncoderObject, PluginError, ReadyGradients, TapeId, TensorView,
};

/// A loaded encoder with its names for messages.
pub struct Encoder {
    plugin: String,
    id: String,
    info: EncoderInfo,
    place: Place,
    object: EncoderObject,
}

impl Encoder {
    pub(super) fn new(
        plugin: &str,
        id: &str,
        info: EncoderInfo,
        place: Place,
        object: EncoderObject,
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info,
            place,
            object,
        }
    }

    /// Returns the encoder's description.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Computes the features of a batch of clips. The clips are borrowed, and copied only if the encoder takes them on its
    /// device. The features stay where the encoder returns them.
    ///
    /// # Shapes
    ///
    /// `[batch, num_frames, 3, image_size, image_size]` → `[batch, temporal · spatial, width]`
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the features do not have the shape that the plugin described.
    pub fn encode(&self, clips: &Clips<'_>) -> Result<PluginTensor, CallError> {
        self.with_placed(clips, |clips| {
            let call = RunningCall::begin();
            let features = self.object.encode(call.call(), clips)?;
            self.place.returned(features, &self.shape(clips))
        })
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
    pub fn forward_train(&self, clips: &Clips<'_>) -> Result<(PluginTensor, Tape<'_>), CallError> {
        self.with_placed(clips, |clips| {
            let call = RunningCall::begin();
            let output = self.object.forward_train(call.call(), clips)?;
            // Created before the check, so that the plugin's tape is always freed.
            let tape = Tape {
                encoder: self,
                id: output.tape,
            };
            let features = self.place.returned(output.features, &self.shape(clips))?;
            Ok((features, tape))
        })
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        CallError::new(&self.plugin, &format!("{doing} with `{}`", self.id), error)
    }

    /// Calls `encode` with the clips where the encoder takes them.
    fn with_placed<T>(
        &self,
        clips: &Clips<'_>,
        encode: impl FnOnce(&Clips<'_>) -> Result<T, PluginError>,
    ) -> Result<T, CallError> {
        let encoded = self.place.place(clips.pixels.into()).and_then(|pixels| {
            let placed = Clips::new(pixels.view()).at(clips.seconds)?;
            encode(&placed)
        });
        encoded.map_err(|error| self.failed("encode", error))
    }

    /// Returns the shape of the features of these clips.
    fn shape(&self, clips: &Clips<'_>) -> [usize; 3] {
        let batch = clips.pixels.shape().first().copied().unwrap_or_default();
        let tokens = self.info.temporal as usize * self.info.spatial as usize;
        [batch, tokens, self.info.width as usize]
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
        let (call, encoder) = (RunningCall::begin(), self.encoder);
        let gradient = encoder.place.place(Input::Host(gradient));
        let result = gradient.and_then(|gradient| {
            let object = &encoder.object;
            object.backward(call.call(), self.id, gradient.view(), ready)
        });
        result.map_err(|error| self.encoder.failed("run the backward pass", error))
    }
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        // After `backward`, this has no effect.
        self.encoder.object.forget(self.id);
    }
}
