//! Limits on the length of a reply, and the reasons why it ends.

use serde::Serialize;

/// The minimum and maximum length of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// The maximum number of tokens.
    pub max_new_tokens: usize,
    /// Hugging Face's `min_length`: the reply does not end before the prompt and the reply together have this many
    /// tokens. Visual tokens do not count.
    pub min_length: usize,
    /// The minimum number of tokens.
    pub min_new_tokens: usize,
}

impl Default for ReplyLimits {
    /// Returns the limits of MERV's evaluation.
    fn default() -> Self {
        Self {
            max_new_tokens: 512,
            min_length: 1,
            min_new_tokens: 0,
        }
    }
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model generated an end token.
    Eos,
    /// `max_new_tokens` was reached.
    MaxNewTokens,
    /// The model's context is full.
    Context,
}
