//! Projectors and fusions: their names in MERV, which of them are supported, and their token counts.
//!
//! All names of the original MERV code are parsed. A kind that is known but not supported gets an error with
//! the reason, not just "unknown".

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::messages::{listed, quoted};
use crate::nearest::nearest;

/// How a projector reduces the tokens of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// No pooling: every token goes through the MLP.
    None,
    /// Adaptive average pooling over the two spatial axes, frame by frame.
    Avg,
    /// Cross-attention from learned queries.
    Attntv,
    /// RegNet stages before and after adaptive average pooling.
    Conv,
    /// Adaptive average pooling over time and space.
    Avg3d,
    /// A 3×3×3 convolution, then adaptive average pooling.
    Conv3d,
}

/// How a pooled token is mapped to the width of the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mlp {
    /// One linear layer.
    Linear,
    /// Linear, GELU, linear.
    Gelu,
    /// Three linear layers with GELU between them. The first is four times wider.
    FusedGelu,
    /// No MLP.
    None,
}

/// The kind of a projector. Its name consists of parts joined by `+`, such as `3davg+linear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProjectorKind {
    /// `no-align`: finetuning does not need a checkpoint of the align stage.
    pub no_align: bool,
    /// The pooling.
    pub pooling: Pooling,
    /// `frameK`: divide the number of frames by K.
    pub frame_divisor: Option<NonZeroUsize>,
    /// The MLP after the pooling.
    pub mlp: Mlp,
}

/// How the features of several encoders are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FusionKind {
    /// `none`: there is only one encoder.
    None,
    /// `first`: only the features of the first encoder are used.
    First,
    /// `concat`: the tokens of the encoders are concatenated.
    Concat,
    /// `concat_channel`: the channels of the encoders are concatenated and go through a linear layer.
    ConcatChannel,
    /// `concat_channel_ln`: the same with a layer norm in between.
    ConcatChannelLn,
    /// `scalar`: a weighted sum. The weights are a softmax over one learned number per encoder.
    Scalar,
    /// `query_mlp`: a weighted sum. An MLP of the text query computes the weights.
    QueryMlp,
    /// `cross_attention_avg_lq`: a weighted sum. One learned query attends to each encoder's mean feature.
    CrossAttentionAvgLq,
    /// A fusion that a plugin brings, which has an id and not a name.
    Plugin,
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

/// The kind of a mixer, without its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MixerKind {
    /// The projector of every encoder.
    pub projector: ProjectorKind,
    /// How the features of the encoders are combined.
    pub fusion: FusionKind,
    /// The number of tokens per time step after pooling. It is a square number.
    pub token_length: usize,
    /// The number of tokens of every encoder after its projector, except for encoders with a single token.
    pub visual_feature_length: usize,
}

impl MixerKind {
    /// Returns the side length of the square to which the tokens of a time step are pooled.
    pub fn token_side(&self) -> usize {
        self.token_length.isqrt()
    }

    /// Returns whether the fusion of a plugin gets the encoders' own features: it is a whole mixer then.
    pub fn is_of_plugin(&self) -> bool {
        self.fusion == FusionKind::Plugin && self.projector.changes_nothing()
    }

    /// Returns the number of tokens after the projector for an encoder with `temporal · spatial` tokens.
    pub fn projected_tokens(&self, temporal: usize, spatial: usize) -> usize {
        match self.projector.pooling {
            Pooling::None => temporal.saturating_mul(spatial),
            _ => {
                let steps = self.projector.time_steps(temporal);
                steps.saturating_mul(self.token_length)
            }
        }
    }

    /// Returns the number of visual tokens after the fusion. `projected` contains the tokens of each encoder
    /// after its projector.
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
    /// Returns the number of time steps after the projector.
    pub fn time_steps(&self, temporal: usize) -> usize {
        temporal / self.frame_divisor.map_or(1, NonZeroUsize::get)
    }

    /// Returns whether the features stay as they are, which only the mixer of a plugin can use.
    pub fn changes_nothing(&self) -> bool {
        (self.pooling, self.mlp) == (Pooling::None, Mlp::None)
    }

    /// Returns whether the pooling arranges the tokens of a time step in rows and columns.
    pub fn needs_grid(&self) -> bool {
        !matches!(self.pooling, Pooling::None | Pooling::Attntv)
    }

    /// Checks whether the projector supports this number of encoders.
    ///
    /// # Errors
    /// Returns a sentence with the reason and an alternative.
    pub fn runnable(&self, encoders: usize) -> Result<(), String> {
        match (self.pooling, self.mlp) {
            (Pooling::None, Mlp::None) => Err(
                "a projector without pooling and without MLP does not change the features, \
                 and the original code cannot build it; use `3davg+linear`, or `3davg+none` for an \
                 encoder that is as wide as the language model, or a mixer of a plugin in `fusion`"
                    .to_owned(),
            ),
            (Pooling::None, Mlp::Linear | Mlp::FusedGelu) if encoders > 1 => Err(format!(
                "`{self}` has no pooling, so the token counts of {encoders} encoders do not \
                 match; use `3davg+{self}`, or a single encoder"
            )),
            _ => Ok(()),
        }
    }
}

impl FusionKind {
    /// Checks whether the fusion supports this number of encoders.
    ///
    /// # Errors
    /// Returns a sentence with the reason and an alternative.
    pub fn runnable(&self, encoders: usize) -> Result<(), String> {
        match self {
            Self::QueryMlp => Err(
                "fusion `query_mlp` cannot run: even the original code has no forward pass \
                 for it; use `cross_attention_avg_lq`"
                    .to_owned(),
            ),
            Self::None if encoders > 1 => Err(format!(
                "fusion `none` does not combine the features of {encoders} encoders; use \
                 `cross_attention_avg_lq`, `concat` or another fusion, or a single encoder"
            )),
            _ => Ok(()),
        }
    }

    /// Returns whether one encoder can have a single token while others have more.
    pub fn takes_single_tokens(&self) -> bool {
        matches!(self, Self::First | Self::Concat | Self::CrossAttentionAvgLq)
    }

    /// Returns whether its tensors may have one part per encoder, in the order of the encoders. Those of a plugin may.
    pub fn has_part_per_encoder(self) -> bool {
        matches!(
            self,
            Self::Scalar | Self::ConcatChannel | Self::ConcatChannelLn | Self::Plugin
        )
    }

    /// Returns whether the result is a weighted sum of the encoders' features.
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
                    "{} comes after the MLP, which must be the last part",
                    quoted(part)
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
                        "{} needs a whole number of at least 1, as in `frame2`",
                        quoted(part)
                    )
                })?;
                frame_divisor.replace(divisor).is_some()
            } else {
                return Err(unknown_part(part));
            };
            if repeated {
                return Err(format!(
                    "{} is a second part of the same kind",
                    quoted(part)
                ));
            }
        }
        let Some(mlp) = mlp else {
            return Err(format!(
                "the MLP is missing; end the name with one of {}",
                listed(MLPS.map(|(name, _)| name))
            ));
        };
        let pooling = pooling.unwrap_or(Pooling::None);
        if frame_divisor.is_some() && !matches!(pooling, Pooling::Avg3d | Pooling::Conv3d) {
            return Err("`frameK` works only with `3davg` and `3dconv`".to_owned());
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
        // Only the fusions of plugins have no name.
        f.write_str(name_of(&FUSIONS, *self).unwrap_or("plugin"))
    }
}

fn unknown_part(part: &str) -> String {
    let mut names = vec!["no-align"];
    names.extend(POOLINGS.map(|(name, _)| name));
    names.push("frameK");
    names.extend(MLPS.map(|(name, _)| name));
    let hint = nearest(part, &names).map(|name| format!("; did you mean `{name}`?"));
    format!(
        "{} is not a part of a projector name; the parts are {}{}",
        quoted(part),
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
    fn fusions_have_the_properties_of_the_original() {
        // Whether it is a weighted sum, has tensors for each encoder, and takes single tokens.
        for (fusion, weighs, parts, single) in [
            (None, false, false, false),
            (First, false, false, true),
            (Concat, false, false, true),
            (ConcatChannel, false, true, false),
            (ConcatChannelLn, false, true, false),
            (Scalar, true, true, false),
            (QueryMlp, false, false, false),
            (CrossAttentionAvgLq, true, false, true),
            (Plugin, false, true, false),
        ] {
            assert_eq!(fusion.weighs(), weighs, "{fusion}");
            assert_eq!(fusion.has_part_per_encoder(), parts, "{fusion}");
            assert_eq!(fusion.takes_single_tokens(), single, "{fusion}");
        }
    }
}
