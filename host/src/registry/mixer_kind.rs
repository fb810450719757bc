//! The names of projectors and fusions: what MERV calls them, and which of them run.
//!
//! Every name of the original is understood, so that a registry written for it gets the reason
//! why a kind cannot run here yet instead of "unknown".

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use super::error::{listed, shown};
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

impl ProjectorKind {
    /// Whether this version can run the projector.
    ///
    /// # Errors
    /// A sentence that says what is not supported and what to use instead.
    pub fn runnable(&self) -> Result<(), String> {
        let refused = if self.pooling != Pooling::Avg3d {
            match name_of(&POOLINGS, self.pooling) {
                Some(name) => format!("pooling `{name}`"),
                None => "a projector without pooling".to_owned(),
            }
        } else if self.frame_divisor.is_some() {
            "dividing the frames (`frameK`)".to_owned()
        } else if self.mlp != Mlp::Linear {
            format!(
                "`{}` after the pooling",
                name_of(&MLPS, self.mlp).unwrap_or_default()
            )
        } else {
            return Ok(());
        };
        Err(format!(
            "{refused} is not supported yet; use `3davg+linear`"
        ))
    }
}

impl FusionKind {
    /// Whether this version can run the fusion.
    ///
    /// # Errors
    /// A sentence that says that it is not supported and what to use instead.
    pub fn runnable(&self) -> Result<(), String> {
        match self {
            Self::CrossAttentionAvgLq => Ok(()),
            Self::QueryMlp => Err(
                "fusion `query_mlp` is not supported, as the original never ran \
                                   it either; use `cross_attention_avg_lq`"
                    .to_owned(),
            ),
            other => Err(format!(
                "fusion `{other}` is not supported yet; use `cross_attention_avg_lq`, which runs \
                 for a single encoder too"
            )),
        }
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
