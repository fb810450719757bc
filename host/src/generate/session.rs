//! Prefill, then token after token.

use super::{Sampler, Stream};
use crate::{Error, plugin::Session};
use merv_plugin_api::{LogitsAt, TensorView};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long a reply may and must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// Hugging Face's `min_length`: no end before prompt and reply together have this many tokens,
    /// visual tokens not counted.
    pub min_length: usize,
    /// No end before the reply has this many tokens.
    pub min_new_tokens: usize,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model said so.
    Eos,
    /// `max_new_tokens` was reached.
    MaxNewTokens,
    /// The model's context is full.
    Context,
}

/// What a run of the language model gave.
pub struct Outcome {
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

/// Takes `embeds [length, width]` into the session and generates. `prompt_tokens` is how much of what the
/// session then holds is text; `show` gets the text as it grows.
///
/// # Errors
///
/// When the language model, the sampler or the tokenizer fails.
pub fn generate(
    session: &mut Session<'_>,
    embeds: TensorView<'_>,
    prompt_tokens: usize,
    limits: Limits,
    mut sampler: Sampler,
    mut stream: Stream<'_>,
    mut show: impl FnMut(&str),
) -> Result<Outcome, Error> {
    let model = session.model();
    let (eos, context) = (
        model.info().eos.as_slice(),
        model.info().context_length as usize,
    );
    let started = Instant::now();
    let mut logits = session.prefill(embeds, LogitsAt::Last)?;
    let first_logits = logits.view().f32s()?.to_vec();
    let prefill = started.elapsed();
    let started = Instant::now();
    let mut count = 0;
    let stop = loop {
        if count >= limits.max_new_tokens {
            break Stop::MaxNewTokens;
        }
        let early = prompt_tokens + count < limits.min_length || count < limits.min_new_tokens;
        let token = sampler.next(logits.view().f32s()?, if early { eos } else { &[] })?;
        if eos.contains(&token) {
            break Stop::Eos;
        }
        count += 1;
        let text = stream.push(token)?;
        if !text.is_empty() {
            show(&text);
        }
        if session.len() >= context {
            break Stop::Context;
        }
        if count < limits.max_new_tokens {
            logits = model.decode(&mut [session], &[token])?;
        }
    };
    let decode = started.elapsed();
    let (tokens, text, rest) = stream.finish()?;
    if !rest.is_empty() {
        show(&rest);
    }
    Ok(Outcome {
        tokens,
        text,
        stop,
        first_logits,
        prefill,
        decode,
    })
}
