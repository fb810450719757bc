//! Builds a reply token by token and decides when it ends.

use super::limits::{ReplyLimits, Stop};
use crate::{
    Error,
    sampling::Sampler,
    tokenizer::{TextStream, TokenizerError},
};
use merv_plugin_api::LanguageModelInfo;

/// A reply that is being generated.
pub struct ReplyBuilder<'t> {
    sampler: Sampler,
    stream: TextStream<'t>,
    limits: ReplyLimits,
    prompt_tokens: usize,
    count: usize,
}

/// The next step of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The model must decode this token.
    Token(u32),
    /// The reply has ended.
    End(Stop),
}

impl<'t> ReplyBuilder<'t> {
    /// Creates an empty reply to a prompt with `prompt_tokens` text tokens.
    pub fn new(
        sampler: Sampler,
        stream: TextStream<'t>,
        limits: ReplyLimits,
        prompt_tokens: usize,
    ) -> Self {
        Self {
            sampler,
            stream,
            limits,
            prompt_tokens,
            count: 0,
        }
    }

    /// Picks the next token from `logits`, for a session with `seen` positions. `show` receives the text that
    /// became final.
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

    /// Returns the tokens, the whole text, and the part of the text that was not shown yet.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn finish(self) -> Result<(Vec<u32>, String, String), TokenizerError> {
        self.stream.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Sampling, TextTokenizer};
    use std::path::Path;

    #[test]
    fn a_reply_may_end_at_the_same_token_as_in_transformers() {
        let tokenizer = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/lively/llm/tokenizer.json"
        );
        let tokenizer = TextTokenizer::load(Path::new(tokenizer)).unwrap();
        let info = LanguageModelInfo::new(1, 6, 100).eos(vec![2, 5]);
        // The number of prompt tokens, `min_length`, `min_new_tokens`, and the number of tokens after which
        // `MinLengthLogitsProcessor` and `MinNewTokensLengthLogitsProcessor` of transformers 4.57.1 allow the end.
        for (prompt, min_length, min_new_tokens, expected) in [
            (5, 0, 0, 0),
            (5, 5, 0, 0),
            (5, 6, 0, 1),
            (5, 9, 0, 4),
            (5, 3, 0, 0),
            (5, 0, 1, 1),
            (5, 0, 4, 4),
            (5, 7, 4, 4),
            (5, 12, 4, 7),
            (0, 3, 0, 3),
            (1, 1, 0, 0),
        ] {
            let limits = ReplyLimits {
                max_new_tokens: 50,
                min_length,
                min_new_tokens,
            };
            let sampler = Sampler::new(Sampling::default()).unwrap();
            let mut reply = ReplyBuilder::new(sampler, TextStream::new(&tokenizer), limits, prompt);
            let mut count = 0;
            // The end tokens are the likeliest.
            let logits = [0.0, 1.0, 9.0, 2.0, 3.0, 8.0];
            while let Next::Token(token) = reply.next(&logits, 0, &info, |_| ()).unwrap() {
                assert_eq!(token, 4);
                count += 1;
            }
            assert_eq!(count, expected, "{prompt} {limits:?}");
            assert_eq!(reply.finish().unwrap().0.len(), expected);
        }
    }
}
