//! Fusions: they combine the projected features of all encoders into one sequence.

use super::{
    linear::{LayerNorm, linear},
    scope::Scope,
};
use crate::{failure::Result, layers::Linear, tensor::size};
use merv_architectures::mixer::{FusionKind, Init, MixerKind, fusion::UNUSED};
use merv_plugin_api::PluginError;
use tch::{Kind, Tensor};

/// One sequence of visual tokens.
pub struct Fused {
    /// `[batch, tokens, llm_width]`
    pub tokens: Tensor,
    /// `[batch, encoders]`
    pub weights: Option<Tensor>,
}

pub enum Fusion {
    /// `none`, for a single encoder, and `first`.
    First,
    /// The tokens of all encoders, one encoder after the other.
    Concat,
    /// `concat_channel`, and with a norm `concat_channel_ln`: upstream's `LinearProjector` on concatenated features.
    ConcatChannel(Option<LayerNorm>, Linear),
    /// Upstream's `ScalarAdapter`: a softmax over one learned number per encoder, `[encoders]`.
    Scalar(Tensor),
    CrossAttention(CrossAttention),
}

/// `cross_attention_avg_lq`: upstream's `CrossAttentionAdapterLearnableQuery` with `averagetoken`. A learned query attends to
/// the mean feature of each encoder, and the attention weights mix the encoders. This is PyTorch's `MultiheadAttention` with
/// one head, of which only the attention weights are used.
pub struct CrossAttention {
    projections: Projections,
    /// The biases of queries, keys and values, `[3 · query_width]`.
    bias: Tensor,
    /// `[1, query_width]`
    learned: Tensor,
}

/// PyTorch stores one matrix if all projections have the same width, and otherwise three.
enum Projections {
    /// `[3 · query_width, query_width]`
    Joint(Tensor),
    /// `[query_width, query_width]` and `[query_width, llm_width]`
    Separate(Tensor, Tensor),
}

impl CrossAttention {
    fn new(llm_width: usize, width: usize, scope: &Scope<'_>) -> Result<Self> {
        let attention = scope.pp("attention");
        let [value, output, output_bias] = UNUSED;
        let three = width.saturating_mul(3);
        let projections = if width == llm_width {
            let init = Init::xavier(width, three);
            Projections::Joint(attention.matrix("in_proj_weight", &[three, width], init)?)
        } else {
            let of_features = Init::xavier(llm_width, width);
            let query = Init::xavier(width, width);
            attention.unused(value, &[width, llm_width], of_features)?;
            Projections::Separate(
                attention.matrix("q_proj_weight", &[width, width], query)?,
                attention.matrix("k_proj_weight", &[width, llm_width], of_features)?,
            )
        };
        attention.unused(output, &[width, width], Init::fan_in(width))?;
        attention.unused(output_bias, &[width], Init::Zeros)?;
        Ok(Self {
            projections,
            bias: attention.matrix("in_proj_bias", &[three], Init::Zeros)?,
            learned: scope.vector("Q", &[1, width], Init::xavier(width, 1))?,
        })
    }

    /// For each encoder `[batch, tokens, llm_width]` → the weights `[batch, encoders]`
    fn weigh(&self, projected: &[Tensor]) -> Result<Tensor> {
        let width = self.learned.size2()?.1;
        let (query, key) = match &self.projections {
            Projections::Joint(all) => (all.f_narrow(0, 0, width)?, all.f_narrow(0, width, width)?),
            Projections::Separate(query, key) => (query.shallow_clone(), key.shallow_clone()),
        };
        let project = |x: &Tensor, weight: &Tensor, part: i64| -> Result<Tensor> {
            let bias = self.bias.f_narrow(0, part * width, width)?;
            let x = x.f_to_kind(weight.kind())?.f_linear(weight, Some(&bias))?;
            Ok(x.f_to_kind(Kind::Float)?)
        };
        let mut means = Vec::new();
        for features in projected {
            means.push(features.f_mean_dim([1].as_slice(), true, Kind::Float)?);
        }
        let keys = project(&Tensor::f_cat(&means, 1)?, &key, 1)?;
        let query = project(&self.learned, &query, 0)?;
        let scores = keys
            .f_matmul(&query.f_transpose(0, 1)?)?
            .f_squeeze_dim(-1)?;
        let scores = scores.f_mul_scalar(1.0 / (width as f64).sqrt())?;
        Ok(scores.f_softmax(-1, Kind::Float)?)
    }
}

impl Fusion {
    /// Takes its parameters below `feature_fusion`. `query_width` is the width of a learned query.
    pub fn new(
        kind: MixerKind,
        encoders: usize,
        llm_width: usize,
        query_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let unsupported = |why: String| PluginError::invalid(why);
        kind.fusion.runnable(encoders).map_err(unsupported)?;
        let scope = &scope.pp("feature_fusion");
        let width = encoders.saturating_mul(llm_width);
        Ok(match kind.fusion {
            FusionKind::None | FusionKind::First => Self::First,
            FusionKind::Concat => Self::Concat,
            FusionKind::ConcatChannel => {
                Self::ConcatChannel(None, linear(width, llm_width, &scope.pp("projector"))?)
            }
            FusionKind::ConcatChannelLn => {
                let norm = LayerNorm::new(width, &scope.pp(0))?;
                let linear = linear(width, llm_width, &scope.pp(1).pp("projector"))?;
                Self::ConcatChannel(Some(norm), linear)
            }
            FusionKind::Scalar => {
                Self::Scalar(scope.vector("scalar", &[encoders], Init::Normal(1.0))?)
            }
            FusionKind::CrossAttentionAvgLq => {
                Self::CrossAttention(CrossAttention::new(llm_width, query_width, scope)?)
            }
            FusionKind::QueryMlp | FusionKind::Plugin => {
                return Err(PluginError::invalid(format!(
                    "this mixer has no fusion `{}`",
                    kind.fusion
                ))
                .into());
            }
        })
    }

    /// For each encoder `[batch, tokens, llm_width]`, or `[batch, 1, llm_width]` → one sequence of `tokens`
    pub fn forward(&self, projected: &[Tensor], tokens: usize) -> Result<Fused> {
        let plain = |tokens| Fused {
            tokens,
            weights: None,
        };
        Ok(match self {
            Self::First => match projected.first() {
                Some(first) => plain(first.shallow_clone()),
                None => return Err(none_given()),
            },
            Self::Concat => plain(Tensor::f_cat(projected, 1)?),
            Self::ConcatChannel(norm, linear) => {
                let joined = Tensor::f_cat(projected, -1)?;
                let joined = match norm {
                    Some(norm) => norm.forward(&joined)?,
                    None => joined,
                };
                plain(linear.forward(&joined)?.f_to_kind(Kind::Float)?)
            }
            Self::Scalar(learned) => {
                let batch = projected.first().map_or(0, |x| x.size()[0]);
                let weights = learned.f_softmax(-1, Kind::Float)?.f_unsqueeze(0)?;
                weighted(projected, weights.f_expand([batch, -1], false)?, tokens)?
            }
            Self::CrossAttention(fusion) => weighted(projected, fusion.weigh(projected)?, tokens)?,
        })
    }
}

fn none_given() -> crate::failure::Failure {
    PluginError::invalid("expected the features of at least one encoder").into()
}

/// The weighted sum of the features of all encoders. A single token is repeated.
fn weighted(projected: &[Tensor], weights: Tensor, tokens: usize) -> Result<Fused> {
    let mut sum: Option<Tensor> = None;
    for (index, features) in (0..).zip(projected) {
        let (batch, found, width) = features.size3()?;
        if found != 1 && found != size(tokens) {
            return Err(PluginError::invalid(format!(
                "expected {tokens} features or one from every encoder, found {found}"
            ))
            .into());
        }
        let features = features.f_expand([batch, size(tokens), width], false)?;
        let weight = weights.f_narrow(1, index, 1)?.f_unsqueeze(2)?;
        let part = features.f_mul(&weight)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&part)?,
            None => part,
        });
    }
    Ok(Fused {
        tokens: sum.ok_or_else(none_given)?,
        weights: Some(weights),
    })
}
