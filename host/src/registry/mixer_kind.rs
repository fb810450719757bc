//! The names of projectors and fusions: what MERV calls them, which of them run, and how many tokens
//! come out of them.
//!
//! Every name of the original is understood, so that a registry with a kind that the original knows
//! but cannot run gets the reason instead of "unknown".

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::messages::{listed, shown};
use crate::nearest::nearest;

/// How a projector reduces the tokens of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// It does not: every token goes through the MLP.
    None,
    /// Adaptive average over the two spatial axes, frame by frame.
    Avg,
    /// Cross-attention from learned queries.
    Attntv,
    /// RegNet stages around an adaptive average.
    Conv,
    /// Adaptive average over time and space.
    Avg3d,
    /// A 3×3×3 convolution, then the adaptive average.
    Conv3d,
}

/// What maps a pooled token to the language model's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mlp {
    /// One linear layer.
    Linear,
    /// Linear, GELU, linear.
    Gelu,
    /// Three linear layers with GELU between, the first four times wider.
    FusedGelu,
    /// Nothing.
    None,
}

/// A projector's kind: a `+`-joined name such as `3davg+linear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProjectorKind {
    /// `no-align`: finetuning needs no checkpoint of the align stage.
    pub no_align: bool,
    /// How tokens are pooled.
    pub pooling: Pooling,
    /// `frameK`: divide the number of frames by K.
    pub frame_divisor: Option<NonZeroUsize>,
    /// What follows the pooling.
    pub mlp: Mlp,
}

/// How the features of several encoders become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FusionKind {
    /// `none`: there is one encoder and nothing to fuse.
    None,
    /// `first`: the first encoder's features alone.
    First,
    /// `concat`: one encoder's tokens after the other's.
    Concat,
    /// `concat_channel`: joined along the width, then a linear layer.
    ConcatChannel,
    /// `concat_channel_ln`: the same behind a layer norm.
    ConcatChannelLn,
    /// `scalar`: a softmax over one learned number an encoder.
    Scalar,
    /// `query_mlp`: an MLP of the text query weighs the encoders.
    QueryMlp,
    /// `cross_attention_avg_lq`: one learned query attends to each encoder's mean feature.
    CrossAttentionAvgLq,
}

const POOLINGS: [(&str, Pooling); 5] = [
    ("avg", Pooling::Avg),
    ("attntv", Pooling::Attntv),
    ("conv", Pooling::Conv),
    ("3davg", Pooling::Avg3d),
    ("3dconv", Pooling::Conv3d),
];

const MLPS: [(&str, Mlp); 4] = [
    ("linear", Mlp::Linear),
    ("gelu-mlp", Mlp::Gelu),
    ("fused-gelu-mlp", Mlp::FusedGelu),
    ("none", Mlp::None),
];

const FUSIONS: [(&str, FusionKind); 8] = [
    ("none", FusionKind::None),
    ("first", FusionKind::First),
    ("concat", FusionKind::Concat),
    ("concat_channel", FusionKind::ConcatChannel),
    ("concat_channel_ln", FusionKind::ConcatChannelLn),
    ("scalar", FusionKind::Scalar),
    ("query_mlp", FusionKind::QueryMlp),
    ("cross_attention_avg_lq", FusionKind::CrossAttentionAvgLq),
];

/// What a mixer is, without its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MixerKind {
    /// The projector of every encoder.
    pub projector: ProjectorKind,
    /// What makes one of the encoders' features.
    pub fusion: FusionKind,
    /// Tokens a time step after pooling; a square number.
    pub token_length: usize,
    /// Tokens at which every encoder ends, unless it ends at a single one.
    pub visual_feature_length: usize,
}

impl MixerKind {
    /// Side of the square to which the tokens of a time step are pooled.
    pub fn token_side(&self) -> usize {
        self.token_length.isqrt()
    }

    /// Tokens that the projector makes of an encoder's `temporal · spatial`.
    pub fn projected_tokens(&self, temporal: usize, spatial: usize) -> usize {
        match self.projector.pooling {
            Pooling::None => temporal.saturating_mul(spatial),
            _ => {
                let steps = self.projector.time_steps(temporal);
                steps.saturating_mul(self.token_length)
            }
        }
    }

    /// Visual tokens that the fusion makes of what the projectors gave: tokens by encoder.
    pub fn visual_tokens(&self, projected: &[usize]) -> usize {
        match self.fusion {
            FusionKind::Concat => projected
                .iter()
                .fold(0, |sum: usize, &tokens| sum.saturating_add(tokens)),
            FusionKind::First => projected.first().copied().unwrap_or(0),
            _ => self.visual_feature_length,
        }
    }
}

impl ProjectorKind {
    /// Time steps that are left of `temporal`.
    pub fn time_steps(&self, temporal: usize) -> usize {
        temporal / self.frame_divisor.map_or(1, NonZeroUsize::get)
    }

    /// Whether the pooling lays the tokens of a time step out as rows and columns.
    pub fn needs_grid(&self) -> bool {
        !matches!(self.pooling, Pooling::None | Pooling::Attntv)
    }

    /// Whether the projector can run for this number of encoders.
    ///
    /// # Errors
    /// A sentence that says what cannot run and what to use instead.
    pub fn runnable(&self, encoders: usize) -> Result<(), String> {
        match (self.pooling, self.mlp) {
            (Pooling::None, Mlp::None) => Err(
                "a projector without pooling and without MLP would leave the features as they are, \
                 and the original cannot build it; use `3davg+linear`, or `3davg+none` for an \
                 encoder that is as wide as the language model"
                    .to_owned(),
            ),
            (Pooling::None, Mlp::Linear | Mlp::FusedGelu) if encoders > 1 => Err(format!(
                "`{self}` has no pooling, and without one the tokens of {encoders} encoders do not \
                 meet; use `3davg+{self}`, or a single encoder"
            )),
            _ => Ok(()),
        }
    }
}

impl FusionKind {
    /// Whether the fusion can run for this number of encoders.
    ///
    /// # Errors
    /// A sentence that says that it cannot and what to use instead.
    pub fn runnable(&self, encoders: usize) -> Result<(), String> {
        match self {
            Self::QueryMlp => Err(
                "fusion `query_mlp` cannot run, and the original never ran it either: it has no \
                 forward pass; use `cross_attention_avg_lq`"
                    .to_owned(),
            ),
            Self::None if encoders > 1 => Err(format!(
                "fusion `none` leaves the features of {encoders} encoders apart; use \
                 `cross_attention_avg_lq`, `concat` or another fusion, or a single encoder"
            )),
            _ => Ok(()),
        }
    }

    /// Whether an encoder may end at a single token among others of more.
    pub fn takes_single_tokens(&self) -> bool {
        matches!(self, Self::First | Self::Concat | Self::CrossAttentionAvgLq)
    }

    /// Whether its tensors have a part for each encoder, in their order.
    pub(crate) fn has_part_of_each_encoder(self) -> bool {
        matches!(
            self,
            Self::Scalar | Self::ConcatChannel | Self::ConcatChannelLn
        )
    }

    /// Whether each encoder gets a weight, by which its features count.
    pub fn weighs(&self) -> bool {
        matches!(self, Self::Scalar | Self::CrossAttentionAvgLq)
    }
}

impl FromStr for ProjectorKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut no_align = false;
        let mut pooling = None;
        let mut frame_divisor = None;
        let mut mlp = None;
        for part in text.split('+') {
            if mlp.is_some() {
                return Err(format!(
                    "{} comes after the MLP, which ends the name",
                    shown(part)
                ));
            }
            let repeated = if part == "no-align" {
                std::mem::replace(&mut no_align, true)
            } else if let Some(kind) = value_of(&POOLINGS, part) {
                pooling.replace(kind).is_some()
            } else if let Some(kind) = value_of(&MLPS, part) {
                mlp.replace(kind).is_some()
            } else if let Some(divisor) = part.strip_prefix("frame") {
                let divisor = divisor.parse().map_err(|_| {
                    format!(
                        "{} needs a whole number from 1, as in `frame2`",
                        shown(part)
                    )
                })?;
                frame_divisor.replace(divisor).is_some()
            } else {
                return Err(unknown_part(part));
            };
            if repeated {
                return Err(format!("{} is a second part of its kind", shown(part)));
            }
        }
        let Some(mlp) = mlp else {
            return Err(format!(
                "the name does not say what follows the pooling; end it with one of {}",
                listed(MLPS.map(|(name, _)| name))
            ));
        };
        let pooling = pooling.unwrap_or(Pooling::None);
        if frame_divisor.is_some() && !matches!(pooling, Pooling::Avg3d | Pooling::Conv3d) {
            return Err("`frameK` acts on `3davg` and `3dconv` alone".to_owned());
        }
        Ok(Self {
            no_align,
            pooling,
            frame_divisor,
            mlp,
        })
    }
}

impl fmt::Display for ProjectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.no_align {
            f.write_str("no-align+")?;
        }
        if let Some(name) = name_of(&POOLINGS, self.pooling) {
            write!(f, "{name}+")?;
        }
        if let Some(divisor) = self.frame_divisor {
            write!(f, "frame{divisor}+")?;
        }
        f.write_str(name_of(&MLPS, self.mlp).unwrap_or_default())
    }
}

impl FromStr for FusionKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(kind) = value_of(&FUSIONS, text) {
            return Ok(kind);
        }
        let names = FUSIONS.map(|(name, _)| name);
        let hint = nearest(text, &names).map(|name| format!("; did you mean `{name}`?"));
        Err(format!(
            "a fusion is one of {}{}",
            listed(names),
            hint.unwrap_or_default()
        ))
    }
}

impl fmt::Display for FusionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&FUSIONS, *self).unwrap_or_default())
    }
}

fn unknown_part(part: &str) -> String {
    let mut names = vec!["no-align"];
    names.extend(POOLINGS.map(|(name, _)| name));
    names.push("frameK");
    names.extend(MLPS.map(|(name, _)| name));
    let hint = nearest(part, &names).map(|name| format!("; did you mean `{name}`?"));
    format!(
        "{} is no part of a projector's name; the parts are {}{}",
        shown(part),
        listed(&names),
        hint.unwrap_or_default()
    )
}

fn value_of<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

fn name_of<T: PartialEq>(table: &[(&'static str, T)], value: T) -> Option<&'static str> {
    table
        .iter()
        .find(|(_, known)| *known == value)
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::FusionKind::*;

    #[test]
    fn fusions_have_the_parts_of_the_original_s() {
        // Whether it gives weights to the encoders, has tensors for each of them, and takes single tokens.
        for (fusion, weighs, parts, single) in [
            (None, false, false, false),
            (First, false, false, true),
            (Concat, false, false, true),
            (ConcatChannel, false, true, false),
            (ConcatChannelLn, false, true, false),
            (Scalar, true, true, false),
            (QueryMlp, false, false, false),
            (CrossAttentionAvgLq, true, false, true),
        ] {
            assert_eq!(fusion.weighs(), weighs, "{fusion}");
            assert_eq!(fusion.has_part_of_each_encoder(), parts, "{fusion}");
            assert_eq!(fusion.takes_single_tokens(), single, "{fusion}");
        }
    }
}
