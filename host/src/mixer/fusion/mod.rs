//! Fusions: they combine the projected features of all encoders into one sequence.

mod concat_channel;
mod cross_attention;
mod fused;
mod plugin;
mod scalar;

use super::{
    model::{FUSION_PREFIX, MixerModel},
    parameters::Scope,
};
use crate::registry::FusionKind;
use candle_core::Tensor;
use concat_channel::ConcatChannel;
use cross_attention::CrossAttention;
use merv_architectures::mixer::{Cost, fusion as architecture};
use merv_plugin_sdk::{PluginError, Result};
use plugin::PluginFusion;
use scalar::Scalar;

pub use fused::Fused;
pub(super) use plugin::passed_on;

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
    /// A fusion that a plugin brings. `None` if only the specifications of tensors are collected.
    Plugin(Option<PluginFusion>),
}

impl Fusion {
    /// Takes its tensors from `scope`, that of the mixer. `query_width` is the width of the learned query of
    /// `cross_attention_avg_lq`.
    ///
    /// # Errors
    ///
    /// When the fusion does not support this number of encoders.
    pub fn new(
        model: MixerModel<'_>,
        encoders: usize,
        llm_width: usize,
        query_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let kind = model.kind;
        kind.fusion
            .runnable(encoders)
            .map_err(PluginError::invalid)?;
        let of_mixer = scope;
        let scope = &scope.pp("feature_fusion");
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
            FusionKind::Plugin => match model.plugin {
                // A whole mixer names its tensors as it likes.
                Some(plugin) if kind.is_of_plugin() => {
                    Self::Plugin(PluginFusion::new(plugin, "", of_mixer)?)
                }
                Some(plugin) => Self::Plugin(PluginFusion::new(plugin, FUSION_PREFIX, scope)?),
                None => {
                    return Err(PluginError::invalid(
                        "the plugin of the fusion is not given",
                    ));
                }
            },
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
            Self::Plugin(Some(fusion)) => fusion.forward(projected),
            Self::Plugin(None) => Err(PluginError::invalid("the fusion is not loaded")),
        }
    }
}

/// Returns the cost of a fusion of `encoders` encoders. `query_width` is the width of the learned query, if it has one.
pub(super) fn cost(
    model: MixerModel<'_>,
    encoders: usize,
    llm_width: usize,
    query_width: usize,
) -> Cost {
    let (kind, tokens) = (model.kind.fusion, model.kind.visual_feature_length);
    match model.plugin {
        Some(plugin) if kind == FusionKind::Plugin => plugin::cost(plugin),
        _ => architecture::cost(kind, encoders, llm_width, tokens, query_width),
    }
}
