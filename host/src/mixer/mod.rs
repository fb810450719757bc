//! From the features of every encoder to one sequence of visual tokens in the language model's width:
//! a projector per encoder, then a fusion.
//!
//! The mixer is MERV's own part (arXiv 2501.01426, §3; `merv/models/vidlms/merv.py`,
//! `merv/util/nn_utils.py`). Its weights are in MERV's checkpoint, or in a file of their
//! own under the names that they have there: `projectors.<i>.…` and `feature_fusion.…`.

mod begin;
mod cost;
mod fusion;
mod init;
mod layers;
mod load;
mod parameters;
mod projector;

use crate::registry::{FusionKind, MixerEntry, MixerKind, MixerWeights};
use candle_core::Tensor;
use fusion::{Fused, Fusion};
use merv_checkpoint::{StoredTensor, published};
use merv_plugin_sdk::{PluginError, Result, weights};
use parameters::Unused;
use projector::Projector;
use std::{error::Error, fmt, path::Path};

pub use begin::{Beginning, BegunTensor};
pub use cost::Cost;
pub use fusion::PUBLISHED_QUERY_WIDTH;
pub use parameters::Parameter;

/// What the mixer must know of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// D: the width of a feature.
    pub width: usize,
    /// T: temporal positions.
    pub temporal: usize,
    /// S: features per temporal position.
    pub spatial: usize,
}

/// The cost of a mixer for these encoders. `query_width` is the width of the learned query of
/// `cross_attention_avg_lq`, which only its weights tell (see [`query_width`]).
pub fn cost(
    kind: MixerKind,
    encoders: &[EncoderShape],
    llm_width: usize,
    query_width: usize,
) -> Cost {
    let projectors: Cost = encoders
        .iter()
        .map(|&encoder| projector::cost(kind, encoder, llm_width))
        .sum();
    projectors + fusion::cost(kind, encoders.len(), llm_width, query_width)
}

/// The width of the learned query in the weights at `path`; that of the published models for a mixer
/// that has none, and where there is no `path` yet. Reads the file's header alone.
///
/// # Errors
///
/// When the file cannot be read.
pub fn query_width(kind: MixerKind, path: Option<&Path>) -> std::result::Result<usize, MixerError> {
    let (FusionKind::CrossAttentionAvgLq, Some(path)) = (kind.fusion, path) else {
        return Ok(PUBLISHED_QUERY_WIDTH);
    };
    let checkpoint = weights::open(&[path.to_path_buf()], published::mixer_name)?;
    // Whether it is the right tensor is found when it is loaded.
    Ok(begin::query_width(&checkpoint).unwrap_or(PUBLISHED_QUERY_WIDTH))
}

/// A mixer with its weights.
pub struct Mixer {
    projectors: Vec<Projector>,
    fusion: Fusion,
    parameters: Vec<Parameter>,
    unused: Vec<(String, Unused)>,
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

/// The mixer could not be loaded or run.
#[derive(Debug)]
pub struct MixerError {
    message: String,
    causes: Vec<String>,
}

impl fmt::Display for MixerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mixer: {}", self.message)?;
        self.causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl Error for MixerError {}

impl From<PluginError> for MixerError {
    fn from(error: PluginError) -> Self {
        Self {
            message: error.message.to_string(),
            causes: error.causes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Mixer {
    /// Loads a mixer for these encoders, in order, from the file `path`.
    ///
    /// # Errors
    ///
    /// When `kind` cannot mix these encoders, the file cannot be read, or its tensors are not those of this mixer.
    pub fn new(
        kind: MixerKind,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: &Path,
    ) -> std::result::Result<Self, MixerError> {
        load::from_file(kind, encoders, llm_width, path)
    }

    /// The mixer that a registry describes, for these encoders, in order. `path` is the file of its weights, or the one
    /// that a mixer which has not been trained reuses.
    ///
    /// # Errors
    ///
    /// As [`Self::new`] and [`Beginning::new`].
    pub(crate) fn load(
        entry: &MixerEntry,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: Option<&Path>,
    ) -> std::result::Result<Self, MixerError> {
        match (&entry.weights, path) {
            (MixerWeights::Init(init), _) => {
                let beginning = Beginning::new(entry.kind, encoders, llm_width, init, path)?;
                beginning.begin(encoders, llm_width)
            }
            (MixerWeights::Trained(_), Some(path)) => {
                Self::new(entry.kind, encoders, llm_width, path)
            }
            (MixerWeights::Trained(weights), None) => {
                let why = format!("its weights {weights} are not on this machine");
                Err(PluginError::weights(why).into())
            }
        }
    }

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
                Unused::Begun(tensor, seed) => {
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
