//! Prefill, then token after token.

use super::{
    limits::Stop,
    reply_builder::{Next, ReplyBuilder},
};
use crate::{Error, plugin::Session};
use merv_plugin_api::{LogitsAt, TensorView};
use std::time::{Duration, Instant};

/// What a run of the language model gave.
pub struct GeneratedReply {
    /// The reply's tokens, without the end.
    pub tokens: Vec<u32>,
    /// The reply.
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
    /// Logits that the first token was picked from: `[vocab_size]`.
    pub first_logits: Vec<f32>,
    /// Time to take the prompt in.
    pub prefill: Duration,
    /// Time for the tokens after that.
    pub decode: Duration,
}

/// Takes `embeds [length, width]` into `session` and lets `reply` grow; `show` gets the text as it does.
///
/// # Errors
///
/// When the language model, the sampler or the tokenizer fails.
pub fn generate(
    session: &mut Session<'_>,
    embeds: TensorView<'_>,
    mut reply: ReplyBuilder<'_>,
    mut show: impl FnMut(&str),
) -> Result<GeneratedReply, Error> {
    let model = session.model();
    let started = Instant::now();
    let mut logits = session.prefill(embeds, LogitsAt::Last)?;
    let first_logits = logits.view().f32s()?.to_vec();
    let prefill = started.elapsed();
    let started = Instant::now();
    let stop = loop {
        let seen = session.len();
        match reply.next(logits.view().f32s()?, seen, model.info(), &mut show)? {
            Next::End(stop) => break stop,
            Next::Token(token) => logits = model.decode(&mut [session], &[token])?,
        }
    };
    let decode = started.elapsed();
    let (tokens, text, rest) = reply.finish()?;
    if !rest.is_empty() {
        show(&rest);
    }
    Ok(GeneratedReply {
        tokens,
        text,
        stop,
        first_logits,
        prefill,
        decode,
    })
}
