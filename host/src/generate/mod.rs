//! From visual tokens and a prompt to text: `prompter` makes ids of a conversation, `session` drives the
//! language model, `sampler` picks each token, `growing` says when a reply ends; `batch` makes many replies
//! together.

mod batch;
mod growing;
mod limits;
mod prompter;
mod session;

pub use crate::sampling::{Sampler, SamplerError, Sampling};
pub use batch::{Ended, Job, generate_many};
pub use growing::{Growing, Next};
pub use limits::{Limits, Stop};
pub use prompter::{Asked, Conversation, Prompter, Turn, Writing};
pub use session::{Outcome, generate};

pub use crate::tokenizer::{Stream, TextError, TextTokenizer};
