//! From visual tokens and a prompt to text: `text` tokenises, `session` drives the language model,
//! `sampler` picks each token.

mod sampler;
mod session;
mod text;

pub use sampler::{Sampler, SamplerError, Sampling};
pub use session::{Limits, Outcome, Stop, generate};
pub use text::{Stream, TextError, TextTokenizer};
