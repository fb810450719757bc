//! Tokenizers: convert text to ids, and ids to text, also one by one.
//!
//! A tokenizer is read from a `tokenizer.json` or from GGUF metadata (`gguf/`). These files are untrusted, and
//! the library panics on some of them, so every call catches panics.

mod panics;
mod consistency;
mod error;
mod gguf;
mod unstable_text;
mod limits;
mod stream;
mod text_tokenizer;
mod escaping;

pub use error::TokenizerError;
pub use stream::TextStream;
pub use text_tokenizer::TextTokenizer;
