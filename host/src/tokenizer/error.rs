//! What can be wrong with a tokenizer.

use std::path::PathBuf;
use thiserror::Error;

/// The tokenizer cannot be read or used.
#[derive(Debug, Error)]
pub enum TextError {
    /// The file is missing or is no tokenizer.
    #[error(
        "{} is no tokenizer: {reason}\n  do: fetch `tokenizer.json` of the language model again, or name another \
         file as `tokenizer` in [llm]",
        .path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A text or ids cannot be converted.
    #[error("the tokenizer {} failed: {reason}", .path.display())]
    Convert {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
