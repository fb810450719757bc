//! Generates one reply: prefill, then decoding token by token.

use super::{
    limits::Stop,
    reply_builder::{Next, ReplyBuilder},
};
use crate::{
    Error,
    plugin::{PluginTensor, Session},
};
use merv_plugin_api::LogitsAt;
use std::time::{Duration, Instant};

/// A reply with its timings.
pub struct GeneratedReply {
    /// The tokens of the reply, without the end token.
    pub tokens: Vec<u32>,
    /// The text of the reply.
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
    /// The logits of the first token: `[vocab_size]`.
    pub first_logits: Vec<f32>,
    /// The time of the prefill.
    pub prefill: Duration,
    /// The time of the decoding.
    pub decode: Duration,
}

/// Prefills `embeds` (`[length, width]`) into `session` and generates the reply. `show` receives the text as it is
/// generated.
///
/// # Errors
///
/// When the language model, the sampler or the tokenizer fails.
pub fn generate(
    session: &mut Session<'_>,
    embeds: &PluginTensor,
    mut reply: ReplyBuilder<'_>,
    mut show: impl FnMut(&str),
) -> Result<GeneratedReply, Error> {
    let model = session.model();
    let started = Instant::now();
    let mut logits = session.prefill(embeds, LogitsAt::LAST)?;
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
