//! A mixer with its weights, and its forward pass.

use super::{
    error::MixerError,
    fusion::{Fused, Fusion},
    parameters::{Parameter, Unused},
    projector::Projector,
};
use crate::plugin::{CallError, Training};
use candle_core::Tensor;
use merv_checkpoint::StoredTensor;
use merv_plugin_api::{MixerInfo, TrainingOptions};
use merv_plugin_sdk::{PluginError, Result};

/// A mixer with its weights.
pub struct Mixer {
    pub(super) projectors: Vec<Projector>,
    pub(super) fusion: Fusion,
    pub(super) parameters: Vec<Parameter>,
    pub(super) unused: Vec<(String, Unused)>,
    pub(super) info: MixerInfo,
}

impl Mixer {
    /// Returns the description of the mixer, in the form in which plugins describe theirs.
    pub fn info(&self) -> &MixerInfo {
        &self.info
    }

    /// Returns the parameters, under their names in MERV's checkpoint. Changes to them take effect in the next
    /// [`Self::forward`].
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the tensors that belong to the file of the mixer although the computation does not use them.
    ///
    /// # Errors
    ///
    /// When there is not enough memory.
    pub fn unused(&self) -> std::result::Result<Vec<(String, StoredTensor)>, MixerError> {
        let all = self.unused.iter().map(|(name, unused)| {
            let tensor = match unused {
                Unused::Stored(tensor) => tensor.clone(),
                Unused::Init(tensor, seed) => {
                    let values = tensor.init.values(name, &tensor.shape, *seed)?;
                    StoredTensor::of_f32s(&values, tensor.shape.clone())
                        .map_err(|error| PluginError::invalid(format!("`{name}`: {error}")))?
                }
            };
            Ok((name.clone(), tensor))
        });
        all.collect()
    }

    /// Prepares the fusion of a plugin for training. Returns `None` if the fusion is not of a plugin.
    ///
    /// # Errors
    ///
    /// When it cannot be trained.
    pub(super) fn begin_training(
        &self,
        options: &TrainingOptions,
    ) -> std::result::Result<Option<Training>, CallError> {
        match &self.fusion {
            Fusion::Plugin(Some(fusion)) => fusion.begin_training(options).map(Some),
            _ => Ok(None),
        }
    }

    /// Computes the visual tokens.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, temporal · spatial, width]` → [`Mixed`]
    ///
    /// # Errors
    ///
    /// When the number or the shape of the features does not match the mixer.
    pub fn forward(&self, features: &[Tensor]) -> std::result::Result<Mixed, MixerError> {
        Ok(self.mix(features)?)
    }

    /// See [`Self::forward`].
    pub(super) fn mix(&self, features: &[Tensor]) -> Result<Mixed> {
        if features.len() != self.projectors.len() {
            return Err(PluginError::invalid(format!(
                "expected the features of {} encoders, found {}",
                self.projectors.len(),
                features.len()
            )));
        }
        let projected = self
            .projectors
            .iter()
            .zip(features)
            .map(|(projector, features)| projector.forward(features))
            .collect::<Result<Vec<_>>>()?;
        let Fused { tokens, weights } = self.fusion.forward(&projected)?;
        Ok(Mixed {
            projected,
            fused: tokens,
            weights,
        })
    }
}

/// The output of the mixer.
pub struct Mixed {
    /// The projected features of each encoder: `[batch, tokens, llm_width]`.
    pub projected: Vec<Tensor>,
    /// The visual tokens: `[batch, tokens, llm_width]`.
    pub fused: Tensor,
    /// The weights of the encoders, if the fusion has weights: `[batch, encoders]`, a softmax in each row.
    pub weights: Option<Tensor>,
}

impl Mixed {
    /// Returns the output detached from the graph of the gradients.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            projected: self.projected.iter().map(Tensor::detach).collect(),
            fused: self.fused.detach(),
            weights: self.weights.as_ref().map(Tensor::detach),
        }
    }
}
