//! Errors of tokenizers.

use std::path::PathBuf;
use thiserror::Error;

/// A tokenizer cannot be read or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The file is missing or is not a valid tokenizer.
    #[error(
        "{} is not a valid tokenizer: {reason}\n  do: download `tokenizer.json` of the language model again, or set \
         `tokenizer` in [llm] to another file",
        .path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A text or a list of ids could not be converted.
    #[error("the tokenizer {} failed: {reason}", .path.display())]
    Convert {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
