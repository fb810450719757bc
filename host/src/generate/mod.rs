//! From visual tokens and a prompt to text: `prompter` makes ids of a conversation, `session` drives the
//! language model, `sampler` picks each token, `growing` says when a reply ends; `batch` makes many replies
//! together.

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

pub use crate::tokenizer::{Stream, TextError, TextTokenizer};
