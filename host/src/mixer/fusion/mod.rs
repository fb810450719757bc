//! Fusions: they combine the projected features of all encoders into one sequence.

mod concat_channel;
mod cross_attention;
mod fused;
mod scalar;

use super::{cost::Cost, parameters::Scope};
use crate::registry::{FusionKind, MixerKind};
use candle_core::Tensor;
use concat_channel::ConcatChannel;
use cross_attention::CrossAttention;
use merv_plugin_sdk::{PluginError, Result};
use scalar::Scalar;

pub use cross_attention::{PUBLISHED_QUERY_WIDTH, UNUSED};
pub use fused::Fused;

/// A fusion with its weights.
pub enum Fusion {
    /// `none`, for a single encoder, and `first`.
    First,
    /// `concat`: the tokens of all encoders, one encoder after the other.
    Concat,
    /// `concat_channel` and `concat_channel_ln`.
    ConcatChannel(ConcatChannel),
    /// `scalar`.
    Scalar(Scalar),
    /// `cross_attention_avg_lq`.
    CrossAttention(CrossAttention),
}

impl Fusion {
    /// Takes its tensors from `scope`. `query_width` is the width of the learned query of
    /// `cross_attention_avg_lq`.
    ///
    /// # Errors
    ///
    /// When the fusion does not support this number of encoders.
    pub fn new(
        kind: MixerKind,
        encoders: usize,
        llm_width: usize,
        query_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        kind.fusion
            .runnable(encoders)
            .map_err(PluginError::invalid)?;
        Ok(match kind.fusion {
            FusionKind::None | FusionKind::First => Self::First,
            FusionKind::Concat => Self::Concat,
            FusionKind::ConcatChannel | FusionKind::ConcatChannelLn => {
                let norm = kind.fusion == FusionKind::ConcatChannelLn;
                Self::ConcatChannel(ConcatChannel::new(encoders, llm_width, norm, scope)?)
            }
            FusionKind::Scalar => Self::Scalar(Scalar::new(encoders, scope)?),
            FusionKind::CrossAttentionAvgLq => {
                let tokens = kind.visual_feature_length;
                Self::CrossAttention(CrossAttention::new(tokens, llm_width, query_width, scope)?)
            }
            // Refused above.
            FusionKind::QueryMlp => return Err(PluginError::invalid("`query_mlp` cannot run")),
        })
    }

    /// Combines the projected features of all encoders.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, tokens, llm_width]` → [`Fused`]
    ///
    /// # Errors
    ///
    /// When the shapes of the encoders do not match each other.
    pub fn forward(&self, projected: &[Tensor]) -> Result<Fused> {
        let unweighted = |tokens| Fused {
            tokens,
            weights: None,
        };
        match self {
            Self::First => match projected.first() {
                Some(first) => Ok(unweighted(first.clone())),
                None => Err(PluginError::invalid(
                    "expected the features of at least one encoder",
                )),
            },
            Self::Concat => Ok(unweighted(Tensor::cat(projected, 1)?)),
            Self::ConcatChannel(fusion) => Ok(unweighted(fusion.forward(projected)?)),
            Self::Scalar(fusion) => fusion.forward(projected),
            Self::CrossAttention(fusion) => fusion.forward(projected),
        }
    }
}

/// Returns the cost of a fusion of `encoders` encoders. `query_width` is the width of the learned query, if it has one.
pub(super) fn cost(kind: MixerKind, encoders: usize, llm_width: usize, query_width: usize) -> Cost {
    let tokens = kind.visual_feature_length;
    match kind.fusion {
        FusionKind::None | FusionKind::First | FusionKind::Concat | FusionKind::QueryMlp => {
            Cost::default()
        }
        FusionKind::ConcatChannel => concat_channel::cost(encoders, llm_width, tokens, false),
        FusionKind::ConcatChannelLn => concat_channel::cost(encoders, llm_width, tokens, true),
        FusionKind::Scalar => scalar::cost(encoders, llm_width, tokens),
        FusionKind::CrossAttentionAvgLq => {
            cross_attention::cost(encoders, llm_width, tokens, query_width)
        }
    }
}
