//! From visual tokens and a prompt to text: `prompter` makes ids of a conversation, `session` drives the
//! language model, `sampler` picks each token.

mod prompter;
mod sampler;
mod session;

pub use prompter::{Asked, Conversation, Prompter, Turn, Writing};
pub use sampler::{Sampler, SamplerError, Sampling};
pub use session::{Limits, Outcome, Stop, generate};

pub use crate::tokenizer::{Stream, TextError, TextTokenizer};
