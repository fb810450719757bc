//! A mixer with its weights, and what it computes.

use super::{
    error::MixerError,
    fusion::{Fused, Fusion},
    parameters::{Parameter, Unused},
    projector::Projector,
};
use candle_core::Tensor;
use merv_checkpoint::StoredTensor;
use merv_plugin_sdk::{PluginError, Result};

/// A mixer with its weights.
pub struct Mixer {
    pub(super) projectors: Vec<Projector>,
    pub(super) fusion: Fusion,
    pub(super) parameters: Vec<Parameter>,
    pub(super) unused: Vec<(String, Unused)>,
}

impl Mixer {
    /// Its parameters, under the names that they have in MERV's checkpoint. What they are set to, the
    /// next [`Self::forward`] computes with.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Tensors that belong into its file although nothing is computed from them.
    ///
    /// # Errors
    ///
    /// When there is not enough memory for them.
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

    /// # Shapes
    ///
    /// Of each encoder `[batch, temporal · spatial, width]` → [`Mixed`]
    ///
    /// # Errors
    ///
    /// When the number or a shape of the features is not what the mixer was loaded for.
    pub fn forward(&self, features: &[Tensor]) -> std::result::Result<Mixed, MixerError> {
        if features.len() != self.projectors.len() {
            return Err(PluginError::invalid(format!(
                "expected the features of {} encoders, found {}",
                self.projectors.len(),
                features.len()
            ))
            .into());
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

/// What came out of the mixer.
pub struct Mixed {
    /// Of each encoder, `[batch, tokens, llm_width]`.
    pub projected: Vec<Tensor>,
    /// `[batch, tokens, llm_width]`
    pub fused: Tensor,
    /// How much each encoder counts, where the fusion weighs them: `[batch, encoders]`, each row a
    /// softmax.
    pub weights: Option<Tensor>,
}

impl Mixed {
    /// The same without the graph that gradients would go back through.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            projected: self.projected.iter().map(Tensor::detach).collect(),
            fused: self.fused.detach(),
            weights: self.weights.as_ref().map(Tensor::detach),
        }
    }
}
