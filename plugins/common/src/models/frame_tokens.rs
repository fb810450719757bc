//! The tokens of each frame that become features, and their order.

use crate::{Result, models::features::clips_in_groups, tensor::with_slice, threads::on_pool};
use candle_core::Tensor;
use merv_architectures::features::tokens_of;
use merv_plugin_api::{Call, EncoderInfo, PluginError, TensorBuf, TensorView};

pub use merv_architectures::frame_tokens::FrameTokens;

/// Adds frame `index` of `frames` to `clip`, the features of its clip, which start as zeros. `tokens` are
/// the tokens of the frame: `prefix` tokens, with the class token first, and the patches.
fn place(
    choice: FrameTokens,
    (index, frames): (usize, usize),
    tokens: &[f32],
    (prefix, width): (usize, usize),
    clip: &mut [f32],
) {
    let class = &tokens[..width];
    let patches = &tokens[(prefix * width).min(tokens.len())..];
    let mut put = |at: usize, what: &[f32]| {
        clip[at * width..][..what.len()].copy_from_slice(what);
    };
    let (each, count) = (patches.len() / width, tokens.len() / width);
    match choice {
        FrameTokens::Patches => put(index * each, patches),
        FrameTokens::Class => put(index, class),
        FrameTokens::All => {
            put(index * (1 + each), class);
            put(index * (1 + each) + 1, patches);
        }
        FrameTokens::ClassesFirst => {
            put(index, class);
            put(frames + index * each, patches);
        }
        FrameTokens::MeanClassFirst => {
            put(1 + index * each, patches);
            add(&mut clip[..width], class, frames);
        }
        FrameTokens::Mean => {
            let mean = &mut clip[index * width..][..width];
            for token in tokens.chunks_exact(width) {
                add(mean, token, count);
            }
        }
    }
}

/// The backward pass of [`place`]: from the gradient of a clip's features to that of the tokens of
/// one frame, which starts as zeros.
pub(crate) fn lift(
    choice: FrameTokens,
    (index, frames): (usize, usize),
    clip: &[f32],
    (prefix, width): (usize, usize),
    tokens: &mut [f32],
) {
    let count = tokens.len() / width;
    let (class, rest) = tokens.split_at_mut(width.min(tokens.len()));
    let skipped = (prefix.saturating_sub(1) * width).min(rest.len());
    // Without a prefix, the first token is a patch too.
    let each = count.saturating_sub(prefix);
    let get = |at: usize, what: &mut [f32]| {
        what.copy_from_slice(&clip[at * width..][..what.len()]);
    };
    match choice {
        FrameTokens::Patches if prefix == 0 => {
            get(index * each, class);
            get(index * each + 1, rest);
        }
        FrameTokens::Patches => get(index * each, &mut rest[skipped..]),
        FrameTokens::Class => get(index, class),
        FrameTokens::All => {
            get(index * (1 + each), class);
            get(index * (1 + each) + 1, &mut rest[skipped..]);
        }
        FrameTokens::ClassesFirst => {
            get(index, class);
            get(frames + index * each, &mut rest[skipped..]);
        }
        FrameTokens::MeanClassFirst => {
            get(1 + index * each, &mut rest[skipped..]);
            add(class, &clip[..width], frames);
        }
        FrameTokens::Mean => {
            let mean = &clip[index * width..][..width];
            for token in tokens.chunks_exact_mut(width) {
                add(token, mean, count);
            }
        }
    }
}

/// Adds one of the `count` parts of a mean.
fn add(mean: &mut [f32], part: &[f32], count: usize) {
    for (mean, part) in mean.iter_mut().zip(part) {
        *mean += part / count as f32;
    }
}

/// Runs `encode` on consecutive groups of `group` frames of every clip and arranges their tokens.
///
/// `encode` receives `[group, 3, size, size]` and returns `[group, prefix + patches, width]`. The class token
/// is the first of the prefix.
///
/// # Errors
///
/// When the clips do not have the shape of `info`, `group` does not divide the number of frames, or `encode`
/// fails or returns another number of tokens than `info` states.
pub fn encode_frames(
    clips: &TensorView<'_>,
    info: &EncoderInfo,
    group: usize,
    choice: FrameTokens,
    prefix: usize,
    mut encode: impl FnMut(&[f32]) -> Result<Tensor> + Send,
) -> Result<TensorBuf> {
    let (batch, groups) = clips_in_groups(clips, info, group)?;
    let (frames, width) = (info.num_frames as usize, info.width as usize);
    let expected = (info.temporal, info.spatial);
    let clip = tokens_of(info) * width;
    let mut features = vec![0.0; batch * clip];
    on_pool(|| {
        for (index, part) in groups.enumerate() {
            Call::current().check()?;
            let tokens = encode(part)?;
            let (found, count, found_width) = tokens.dims3()?;
            let patches = count.saturating_sub(prefix);
            let fits = found == group && found_width == width && count > 0;
            if !fits || choice.shape(frames, patches) != expected {
                return Err(PluginError::invalid(format!(
                    "expected the tokens of {group} frames with a width of {width}, found a tensor of shape {:?}",
                    tokens.dims()
                )));
            }
            with_slice(&tokens, |tokens| {
                for (offset, tokens) in tokens.chunks_exact(count * width).enumerate() {
                    let frame = index * group + offset;
                    let out = &mut features[frame / frames * clip..][..clip];
                    place(
                        choice,
                        (frame % frames, frames),
                        tokens,
                        (prefix, width),
                        out,
                    );
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    TensorBuf::from_vec(features, &[batch, tokens_of(info), width])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places two frames, each with a class token, a register and two patches, of width 1.
    fn placed(choice: FrameTokens) -> Vec<f32> {
        let (temporal, spatial) = choice.shape(2, 2);
        let mut clip = vec![0.0; (temporal * spatial) as usize];
        for (index, tokens) in [[1., 9., 2., 3.], [5., 9., 6., 7.]].iter().enumerate() {
            place(choice, (index, 2), tokens, (2, 1), &mut clip);
        }
        clip
    }

    #[test]
    fn every_choice_has_its_order() {
        assert_eq!(placed(FrameTokens::Patches), [2., 3., 6., 7.]);
        assert_eq!(placed(FrameTokens::All), [1., 2., 3., 5., 6., 7.]);
        assert_eq!(placed(FrameTokens::Mean), [15. / 4., 27. / 4.]);
        assert_eq!(placed(FrameTokens::Class), [1., 5.]);
        assert_eq!(placed(FrameTokens::ClassesFirst), [1., 5., 2., 3., 6., 7.]);
        assert_eq!(placed(FrameTokens::MeanClassFirst), [3., 2., 3., 6., 7.]);
    }

    /// `<place(tokens), y> = <tokens, lift(y)>` for every choice, which makes each the transpose of the
    /// other.
    #[test]
    fn the_backward_pass_of_every_choice_is_its_transpose() {
        let tokens = [[1.0f32, 9., 2., 3.], [5., 8., 6., 7.]];
        for (choice, prefix) in [
            (FrameTokens::Patches, 2),
            (FrameTokens::Patches, 0),
            (FrameTokens::All, 2),
            (FrameTokens::Mean, 1),
            (FrameTokens::Class, 2),
            (FrameTokens::ClassesFirst, 2),
            (FrameTokens::MeanClassFirst, 2),
        ] {
            let (temporal, spatial) = choice.shape(2, 4 - prefix);
            let mut clip = vec![0.0; (temporal * spatial) as usize];
            for (index, tokens) in tokens.iter().enumerate() {
                place(choice, (index, 2), tokens, (prefix, 1), &mut clip);
            }
            let gradient: Vec<f32> = (0..clip.len()).map(|i| i as f32 - 2.5).collect();
            let mut backward = 0.0;
            for (index, tokens) in tokens.iter().enumerate() {
                let mut lifted = [0.0; 4];
                lift(choice, (index, 2), &gradient, (prefix, 1), &mut lifted);
                backward += tokens.iter().zip(lifted).map(|(a, b)| a * b).sum::<f32>();
            }
            let forward: f32 = clip.iter().zip(&gradient).map(|(a, b)| a * b).sum();
            assert!(
                (forward - backward).abs() < 1e-4,
                "{choice:?}: {forward} is not {backward}"
            );
        }
    }
}
