//! The tapes of clips that an encoder processes in groups of frames.

use crate::{
    Result,
    gradients::{Tape, record},
    models::frame_tokens::{FrameTokens, lift},
    threads::on_pool,
};
use candle_core::{Tensor, TensorId};
use merv_architectures::features::{check_gradient, tokens_of};
use merv_plugin_api::{EncoderInfo, TensorView};

/// The tapes of a batch of clips, one for each group of frames, in order.
#[derive(Default)]
pub struct ClipTape(Vec<Group>);

struct Group {
    tape: Tape,
    result: TensorId,
    elements: usize,
    /// The first dimension of the result: the number of frames, for encoders that return tokens by frame.
    frames: usize,
}

impl ClipTape {
    /// Runs the forward pass of the next group and records its tape.
    ///
    /// # Errors
    ///
    /// The error of `forward`.
    pub fn record(&mut self, forward: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let (tokens, tape) = record(&[], forward)?;
        self.0.push(Group {
            tape,
            result: tokens.id(),
            elements: tokens.elem_count(),
            frames: tokens.dims().first().copied().unwrap_or_default(),
        });
        Ok(tokens)
    }

    /// Runs the backward pass for features that are the concatenated results of the groups.
    ///
    /// # Errors
    ///
    /// When the gradient does not have the shape of the features, or the backward pass fails.
    pub fn backward(self, info: &EncoderInfo, gradient: &TensorView<'_>) -> Result<()> {
        let elements: usize = self.0.iter().map(|group| group.elements).sum();
        let clip = tokens_of(info) * info.width as usize;
        check_gradient(gradient, info, |batch| batch * clip == elements)?;
        let mut rest = gradient.f32s()?;
        on_pool(|| {
            for group in self.0 {
                let (part, after) = rest.split_at(group.elements);
                rest = after;
                group.tape.backward(group.result, part.to_vec())?;
            }
            Ok(())
        })
    }

    /// Runs the backward pass for features that `choice` selected from the tokens of the groups. `prefix` is
    /// the number of tokens before the patches of each frame.
    ///
    /// # Errors
    ///
    /// As [`Self::backward`].
    pub fn backward_frames(
        self,
        info: &EncoderInfo,
        choice: FrameTokens,
        prefix: usize,
        gradient: &TensorView<'_>,
    ) -> Result<()> {
        let (frames, width) = (info.num_frames as usize, info.width as usize);
        let clip = tokens_of(info) * width;
        let recorded: usize = self.0.iter().map(|group| group.frames).sum();
        check_gradient(gradient, info, |batch| batch * frames == recorded)?;
        let numbers = gradient.f32s()?;
        let mut frame = 0;
        on_pool(|| {
            for group in self.0 {
                let tokens = group.elements.checked_div(group.frames).unwrap_or(0);
                let mut lifted = vec![0.0; group.elements];
                for out in lifted.chunks_exact_mut(tokens.max(1)) {
                    let from = &numbers[frame / frames * clip..][..clip];
                    lift(choice, (frame % frames, frames), from, (prefix, width), out);
                    frame += 1;
                }
                group.tape.backward(group.result, lifted)?;
            }
            Ok(())
        })
    }
}
