//! From the features of every encoder to one sequence of visual tokens in the language model's width:
//! a projector per encoder ([`projector`]), then a fusion ([`fusion`]).
//!
//! The mixer is MERV's own part (arXiv 2501.01426, §3; `merv/models/vidlms/merv.py`,
//! `merv/util/nn_utils.py`). Its weights are in MERV's checkpoint, or in a file of their
//! own under the names that they have there: `projectors.<i>.…` and `feature_fusion.…`.

pub mod fusion;
pub mod projector;

use crate::registry::MixerEntry;
use candle_core::Tensor;
use fusion::CrossAttention;
use merv_plugin_sdk::{PluginError, Result, checkpoint::published, weights};
use projector::AveragePool3d;
use std::{error::Error, fmt, path::Path};

/// What the mixer must know of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// D: the width of a feature.
    pub width: usize,
    /// T: temporal positions.
    pub temporal: usize,
    /// S: features per temporal position; a square.
    pub spatial: usize,
}

/// What a mixer costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Parameters that take part in the computation.
    pub parameters: u64,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
}

/// The cost of the projectors for these encoders. The fusion is left out: its query's width is only
/// known from its weights, and next to the projectors it costs nothing to run.
pub fn cost(encoders: &[EncoderShape], llm_width: usize, entry: &MixerEntry) -> Cost {
    let each = encoders.iter().map(|encoder| {
        let tokens = encoder.temporal * entry.token_length;
        let pooling = tokens * encoder.spatial * encoder.width;
        let projection = encoder.width * llm_width;
        (projection + llm_width, pooling + tokens * projection)
    });
    let (parameters, macs) = each.fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
    Cost {
        parameters: parameters as u64,
        macs: macs as u64,
    }
}

/// A mixer with its weights.
pub struct Mixer {
    projectors: Vec<AveragePool3d>,
    fusion: CrossAttention,
}

/// What came out of the mixer.
pub struct Mixed {
    /// Of each encoder, `[batch, tokens, llm_width]`.
    pub projected: Vec<Tensor>,
    /// `[batch, tokens, llm_width]`
    pub fused: Tensor,
    /// How much each encoder counts: `[batch, encoders]`, each row a softmax.
    pub weights: Tensor,
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
    /// Loads the mixer that `entry` describes from the file `path`, for these encoders, in order.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or its tensors are not those of this mixer.
    pub fn load(
        entry: &MixerEntry,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: &Path,
    ) -> std::result::Result<Self, MixerError> {
        Self::new(entry.token_side(), encoders, llm_width, path)
    }

    /// As [`Self::load`], with the pooled grid's side given: `side · side` tokens a temporal position.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn new(
        side: usize,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: &Path,
    ) -> std::result::Result<Self, MixerError> {
        // The attention's values and output are in the file, but only its weights are used.
        let unused = [
            "feature_fusion.attention.v_proj_weight",
            "feature_fusion.attention.out_proj.weight",
            "feature_fusion.attention.out_proj.bias",
        ];
        let checkpoint = weights::open(&[path.to_path_buf()], published::mixer_name)?;
        let mixer = weights::load_checkpoint(checkpoint, &unused, |scope| {
            let projectors = encoders
                .iter()
                .enumerate()
                .map(|(index, encoder)| {
                    let scope = scope.pp("projectors").pp(index);
                    AveragePool3d::new(*encoder, side, llm_width, &scope)
                })
                .collect::<Result<_>>()?;
            Ok(Self {
                projectors,
                fusion: CrossAttention::new(llm_width, &scope.pp("feature_fusion")),
            })
        })?;
        Ok(mixer)
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
        let (fused, weights) = self.fusion.forward(&projected)?;
        Ok(Mixed {
            projected,
            fused,
            weights,
        })
    }
}
