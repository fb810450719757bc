//! From visual tokens and a prompt to text: `text` tokenises, `session` drives the language model,
//! `sampler` picks each token, `growing` says when a reply ends; `batch` makes many replies together.

mod batch;
mod growing;
mod sampler;
mod session;
mod text;

pub use batch::{Ended, Job, generate_many};
pub use growing::{Growing, Next};
pub use sampler::{Sampler, SamplerError, Sampling};
pub use session::{Limits, Outcome, Stop, generate};
pub use text::{Stream, TextError, TextTokenizer};
