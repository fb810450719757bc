//! A reply as it grows: which token comes next, and when it ends.

use super::{Limits, Sampler, Stop, Stream};
use crate::{Error, tokenizer::TextError};
use merv_plugin_api::LanguageModelInfo;

/// A reply that is being made.
pub struct Growing<'t> {
    sampler: Sampler,
    stream: Stream<'t>,
    limits: Limits,
    prompt_tokens: usize,
    count: usize,
}

/// What happens after a token was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The model is to be given this token.
    Token(u32),
    /// The reply has ended.
    End(Stop),
}

impl<'t> Growing<'t> {
    /// An empty reply to a prompt of so many tokens of text.
    pub fn new(sampler: Sampler, stream: Stream<'t>, limits: Limits, prompt_tokens: usize) -> Self {
        Self {
            sampler,
            stream,
            limits,
            prompt_tokens,
            count: 0,
        }
    }

    /// Picks the token after `logits`, for a session that has seen `seen` positions; `show` gets the text
    /// that this makes certain.
    ///
    /// # Errors
    ///
    /// When the sampler or the tokenizer fails.
    pub fn next(
        &mut self,
        logits: &[f32],
        seen: usize,
        info: &LanguageModelInfo,
        mut show: impl FnMut(&str),
    ) -> Result<Next, Error> {
        let limits = self.limits;
        if self.count >= limits.max_new_tokens {
            return Ok(Next::End(Stop::MaxNewTokens));
        }
        let eos = info.eos.as_slice();
        let early = self.prompt_tokens + self.count < limits.min_length
            || self.count < limits.min_new_tokens;
        let token = self.sampler.next(logits, if early { eos } else { &[] })?;
        if eos.contains(&token) {
            return Ok(Next::End(Stop::Eos));
        }
        self.count += 1;
        let text = self.stream.push(token)?;
        if !text.is_empty() {
            show(&text);
        }
        Ok(if seen >= info.context_length as usize {
            Next::End(Stop::Context)
        } else if self.count >= limits.max_new_tokens {
            Next::End(Stop::MaxNewTokens)
        } else {
            Next::Token(token)
        })
    }

    /// The tokens, the whole text, and what of it was not shown yet.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn finish(self) -> Result<(Vec<u32>, String, String), TextError> {
        self.stream.finish()
    }
}
