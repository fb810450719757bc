//! The tapes of clips that went through an encoder in groups of frames.

use crate::{
    Result,
    gradients::{Tape, record},
    models::{features::tokens_of, frame_tokens::FrameTokens},
    threads::on_pool,
};
use candle_core::{Tensor, TensorId};
use merv_plugin_api::{EncoderInfo, PluginError, TensorView};

/// What the backward pass of a batch of clips needs: a tape for each group of frames, in order.
#[derive(Default)]
pub struct ClipTape(Vec<Group>);

struct Group {
    tape: Tape,
    result: TensorId,
    elements: usize,
    /// The first dimension of the result: frames, where tokens are arranged by them.
    frames: usize,
}

impl ClipTape {
    /// Runs the forward pass of the next group and keeps its tape.
    ///
    /// # Errors
    ///
    /// What `forward` returns.
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

    /// Goes back from the gradient of features that are the groups' results, one after the other.
    ///
    /// # Errors
    ///
    /// When the gradient has not the features' shape, or the backward pass fails.
    pub fn backward(self, info: &EncoderInfo, gradient: &TensorView<'_>) -> Result<()> {
        let elements: usize = self.0.iter().map(|group| group.elements).sum();
        check(info, gradient, |numbers| numbers == elements)?;
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

    /// Goes back from the gradient of features that `choice` has made of the groups' tokens, `prefix` of
    /// them before the patches of each frame.
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
        let batch = gradient.shape().first().copied().unwrap_or_default();
        let recorded: usize = self.0.iter().map(|group| group.frames).sum();
        check(info, gradient, |_| batch * frames == recorded)?;
        let numbers = gradient.f32s()?;
        let mut frame = 0;
        on_pool(|| {
            for group in self.0 {
                let tokens = group.elements.checked_div(group.frames).unwrap_or(0);
                let mut lifted = vec![0.0; group.elements];
                for out in lifted.chunks_exact_mut(tokens.max(1)) {
                    let from = &numbers[frame / frames * clip..][..clip];
                    choice.lift((frame % frames, frames), from, (prefix, width), out);
                    frame += 1;
                }
                group.tape.backward(group.result, lifted)?;
            }
            Ok(())
        })
    }
}

fn check(
    info: &EncoderInfo,
    gradient: &TensorView<'_>,
    fits: impl FnOnce(usize) -> bool,
) -> Result<()> {
    let [batch, tokens, width] = gradient.dims::<3>()?;
    if [tokens, width] == [tokens_of(info), info.width as usize] && fits(batch * tokens * width) {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "expected a gradient of the features, of the batch of the forward pass by {} by {}, found {:?}",
        tokens_of(info),
        info.width,
        gradient.shape()
    )))
}
