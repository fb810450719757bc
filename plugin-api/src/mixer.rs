//! Mixers: the features of all encoders in, one sequence of visual tokens out. A plugin may replace the host's whole
//! mixer, or bring a fusion that combines what the host's projectors made.

use crate::{
    DType, Device, ModelSource, ParameterInfo, PluginError, ReadyGradients, TensorBuf, TensorView,
    Trainable,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The features of one encoder, as a mixer receives them. For a fusion, they are those after the projector: they have
/// the width of the language model, and one time step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MixerInput {
    /// The id of the encoder.
    pub id: String,
    /// D: the width of a feature.
    pub width: u32,
    /// T: temporal positions.
    pub temporal: u32,
    /// S: features per temporal position.
    pub spatial: u32,
}

impl MixerInput {
    /// The features of an encoder, `[temporal, spatial]` positions of `width`.
    pub fn new(id: &str, width: u32, [temporal, spatial]: [u32; 2]) -> Self {
        Self {
            id: id.to_owned(),
            width,
            temporal,
            spatial,
        }
    }
}

/// A request for a mixer or a fusion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MixerRequest {
    /// The id, the device and the options. It has no files: the host reads the weights.
    pub model: ModelSource,
    /// What the encoders give, in order.
    pub inputs: Vec<MixerInput>,
    /// The width of the language model, which visual tokens have.
    pub llm_width: u32,
}

impl MixerRequest {
    /// A mixer for these encoders and a language model of `llm_width`.
    pub fn new(model: ModelSource, inputs: Vec<MixerInput>, llm_width: u32) -> Self {
        Self {
            model,
            inputs,
            llm_width,
        }
    }
}

/// The description of a mixer, available before any weight is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MixerInfo {
    /// The number of visual tokens of a clip.
    pub tokens: u32,
    /// The names in the checkpoint and the shapes of all parameters, in a fixed order. The names are unique. Those of a
    /// fusion begin with `feature_fusion.`, and those of a mixer do not begin with `model.`, `optimizer.` or
    /// `lr_scheduler.`.
    #[serde(default)]
    pub parameters: Vec<ParameterInfo>,
    /// Multiply-accumulate operations for one clip.
    #[serde(default)]
    pub macs_per_clip: u64,
    /// Bytes that a forward pass of one clip needs beside parameters, features and visual tokens.
    #[serde(default)]
    pub working_bytes: u64,
    /// Whether the result is a weighted sum, so that each encoder has a weight. They need not add up to 1.
    #[serde(default)]
    pub weighs: bool,
    /// The dtype that the mixer computes in.
    pub dtype: DType,
    /// The device that the mixer computes on.
    pub device: Device,
    /// The requested options that the mixer honours, with the values in effect. A value is compared with the requested
    /// one as text, so it must be written the same. Options that were not requested may be stated too.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Further properties, for hosts that know them.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

impl MixerInfo {
    /// A mixer in `f32` on the CPU, without parameters, that gives `tokens` visual tokens.
    pub fn new(tokens: u32) -> Self {
        Self {
            tokens,
            parameters: Vec::new(),
            macs_per_clip: 0,
            working_bytes: 0,
            weighs: false,
            dtype: DType::F32,
            device: Device::CPU,
            options: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, shape: &[usize]) -> Self {
        self.parameters.push(ParameterInfo::new(name, shape));
        self
    }

    /// States that each encoder has a weight.
    #[must_use]
    pub fn weighs(mut self) -> Self {
        self.weighs = true;
        self
    }

    /// Sets the multiply-accumulate operations and the bytes of work for one clip.
    #[must_use]
    pub fn cost(mut self, macs_per_clip: u64, working_bytes: u64) -> Self {
        (self.macs_per_clip, self.working_bytes) = (macs_per_clip, working_bytes);
        self
    }

    /// Sets the device that the mixer computes on.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// States that an option is honoured, with the value in effect.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl ToString) -> Self {
        self.options.insert(key.to_owned(), value.to_string());
        self
    }
}

/// The values of a mixer's parameters, borrowed from the host while the mixer is loaded.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct MixerWeights<'a> {
    names: &'a [String],
    values: &'a [TensorView<'a>],
    seed: u64,
}

impl<'a> MixerWeights<'a> {
    /// The values of the parameters with these names. The others are new, and begin with values from `seed`.
    ///
    /// # Errors
    ///
    /// When there is not one value for each name.
    pub fn new(
        names: &'a [String],
        values: &'a [TensorView<'a>],
        seed: u64,
    ) -> Result<Self, PluginError> {
        match names.len() == values.len() {
            true => Ok(Self {
                names,
                values,
                seed,
            }),
            false => Err(PluginError::invalid(format!(
                "expected the values of {} parameters, found {}",
                names.len(),
                values.len()
            ))),
        }
    }

    /// Returns the seed of new parameters. Equal seeds must give equal values, on every machine.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the names of the stored parameters.
    pub(crate) fn names(&self) -> &'a [String] {
        self.names
    }

    /// Returns the values of the stored parameters.
    pub(crate) fn values(&self) -> &'a [TensorView<'a>] {
        self.values
    }

    /// Returns the stored values of a parameter, `f32` in the shape of [`MixerInfo::parameters`], or `None` if the
    /// parameter is new.
    ///
    /// # Errors
    ///
    /// When the values are not `f32` in main memory.
    pub fn get(&self, name: &str) -> Result<Option<&'a [f32]>, PluginError> {
        let mut names = self.names.iter();
        let index = names.position(|known| known == name);
        let value = index.and_then(|index| self.values.get(index));
        value.map(TensorView::f32s).transpose()
    }
}

/// The result of [`Mixer::forward`].
#[derive(Debug)]
#[non_exhaustive]
pub struct VisualTokens {
    /// `[batch, tokens, llm_width]` of `f32`.
    pub tokens: TensorBuf,
    /// `[batch, encoders]` of `f32`: the weight of each encoder, if the mixer has weights.
    pub weights: Option<TensorBuf>,
}

impl VisualTokens {
    /// Visual tokens of a mixer without weights.
    pub fn new(tokens: TensorBuf) -> Self {
        Self {
            tokens,
            weights: None,
        }
    }

    /// Adds the weight of each encoder.
    #[must_use]
    pub fn weighted(mut self, weights: TensorBuf) -> Self {
        self.weights = Some(weights);
        self
    }
}

/// A loaded mixer or fusion. It may be called from several threads at the same time.
pub trait Mixer: Send + Sync + 'static {
    /// Returns the description of this mixer. Called once, when the mixer is loaded. It must be the one that
    /// [`crate::Plugin::describe_mixer`] gave for the same request.
    fn info(&self) -> MixerInfo;

    /// Returns the visual tokens of a batch of clips.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, temporal · spatial, width]` of `f32` → [`VisualTokens`]
    ///
    /// # Errors
    ///
    /// When the number or a shape of the features is wrong, or the computation fails.
    fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens, PluginError>;
}

/// A mixer that can also be trained. [`Trainable::parameters`] are those of [`MixerInfo::parameters`].
pub trait TrainableMixer: Mixer + Trainable {
    /// What a forward pass records for the backward pass.
    type Tape: Send + 'static;

    /// Does the same as [`Mixer::forward`] and also records what [`Self::backward`] needs: copies, because the features
    /// are borrowed. Several tapes may exist at the same time.
    ///
    /// # Errors
    ///
    /// As for [`Mixer::forward`], and when training has not begun.
    fn forward_train(
        &self,
        features: &[TensorView<'_>],
    ) -> Result<(VisualTokens, Self::Tape), PluginError>;

    /// Propagates `gradient`, the gradient of the visual tokens, adds the result to the gradients of the parameters, and
    /// returns the gradient of each encoder's features, for the encoders and projectors before the mixer. A tensor of
    /// shape `[0]` stands for a gradient that does not exist: the visual tokens do not depend on these features, or
    /// [`crate::TrainingOptions::input_gradients`] is false. The parameters must not have changed since the tape was
    /// recorded.
    ///
    /// # Shapes
    ///
    /// `[batch, tokens, llm_width]` of `f32` → for each encoder `[batch, temporal · spatial, width]`, or `[0]`
    ///
    /// # Errors
    ///
    /// When the shape differs from that of the visual tokens, or the computation fails, and the error of `ready`.
    fn backward(
        &self,
        tape: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_by_name() {
        let (first, second) = ([1.0f32, 2.0], [3u8]);
        let names = ["a".to_owned(), "b".to_owned()];
        let values = [
            TensorView::new(&first, &[2]).unwrap(),
            TensorView::new(&second, &[1]).unwrap(),
        ];
        let weights = MixerWeights::new(&names, &values, 7).unwrap();
        assert_eq!(weights.get("a").unwrap(), Some(&first[..]));
        assert!(weights.get("b").is_err(), "it is not f32");
        assert_eq!(weights.get("c").unwrap(), None);
        assert_eq!(weights.seed(), 7);
        assert!(MixerWeights::new(&names, &values[..1], 7).is_err());
    }
}
