//! From visual tokens and a prompt to text. `prompter` converts a conversation to ids, `session` drives the language
//! model, `sampling` picks each token, `reply_builder` collects the tokens of a reply and decides when it ends, and
//! `batch` generates several replies at the same time.

mod batch;
mod limits;
mod prompter;
mod reply_builder;
mod session;

pub use crate::sampling::{Sampler, SamplerError, Sampling};
pub use batch::{FinishedReply, ReplyRequest, generate_many};
pub use limits::{ReplyLimits, Stop};
pub use prompter::{Conversation, EncodedPrompt, PromptStyle, Prompter, Turn};
pub use reply_builder::{Next, ReplyBuilder};
pub use session::{GeneratedReply, generate};

pub use crate::tokenizer::{TextStream, TextTokenizer, TokenizerError};
