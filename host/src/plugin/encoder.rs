//! A loaded encoder.

use super::CallError;
use merv_plugin_api::{EncoderInfo, EncoderObject, ErrorKind, PluginError, TensorBuf, TensorView};

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
        let tokens = self.info.temporal as usize * self.info.spatial as usize;
        let expected = [batch, tokens, self.info.width as usize];
        let checked = self.object.encode(clips).and_then(|features| {
            if features.view().shape() == expected && features.view().f32s().is_ok() {
                return Ok(features);
            }
            Err(PluginError::new(ErrorKind::Internal, format!(
                "a fault of the plugin: it promised features of f32 {expected:?} and returned {:?}",
                features.view()
            )))
        });
        checked.map_err(|error| {
            CallError::new(&self.plugin, &format!("encode with `{}`", self.id), error)
        })
    }
}
