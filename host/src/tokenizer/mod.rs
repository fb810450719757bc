//! The tokenizer: text to ids, ids to text as they come.
//!
//! It comes from a `tokenizer.json`, or from the metadata of a GGUF file (`gguf/`). Such files are not
//! trusted, and the library that reads them panics on some: each of its calls is caught.

mod caught;
mod consistency;
mod error;
mod gguf;
mod growth;
mod limits;
mod stream;
mod text_tokenizer;
mod typed;

pub use error::TextError;
pub use stream::Stream;
pub use text_tokenizer::TextTokenizer;
