//! How long a reply may be, and why it ended.

use serde::Serialize;

/// How long a reply may and must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// Hugging Face's `min_length`: no end before prompt and reply together have this many tokens,
    /// visual tokens not counted.
    pub min_length: usize,
    /// No end before the reply has this many tokens.
    pub min_new_tokens: usize,
}

impl Default for ReplyLimits {
    /// Those of MERV's evaluation.
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
    /// The model said so.
    Eos,
    /// `max_new_tokens` was reached.
    MaxNewTokens,
    /// The model's context is full.
    Context,
}
