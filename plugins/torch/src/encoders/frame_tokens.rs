//! The tokens of each frame that become features.

use crate::failure::Result;
use merv_architectures::frame_tokens::FrameTokens;
use tch::{Kind, Tensor};

/// Arranges the tokens of frames as features of their clips. The class token is the first of the `prefix`.
///
/// `[batch · frames, prefix + patches, width]` → `[batch, tokens, width]`
pub fn arranged(tokens: &Tensor, batch: i64, choice: FrameTokens, prefix: i64) -> Result<Tensor> {
    let (_, count, width) = tokens.size3()?;
    let in_clips = |part: &Tensor| part.f_reshape([batch, -1, width]);
    let class = || tokens.f_narrow(1, 0, 1);
    let patches = || tokens.f_narrow(1, prefix, count - prefix);
    Ok(match choice {
        FrameTokens::Patches => in_clips(&patches()?)?,
        FrameTokens::Class => in_clips(&class()?)?,
        FrameTokens::All => in_clips(&Tensor::f_cat(&[class()?, patches()?], 1)?)?,
        FrameTokens::Mean => in_clips(&tokens.f_mean_dim([1].as_slice(), true, Kind::Float)?)?,
        FrameTokens::ClassesFirst => {
            Tensor::f_cat(&[in_clips(&class()?)?, in_clips(&patches()?)?], 1)?
        }
        FrameTokens::MeanClassFirst => {
            let classes = in_clips(&class()?)?;
            let mean = classes.f_mean_dim([1].as_slice(), true, Kind::Float)?;
            Tensor::f_cat(&[mean, in_clips(&patches()?)?], 1)?
        }
    })
}
