//! Errors of chat templates.

use std::{io, path::PathBuf};
use thiserror::Error;

/// A chat template cannot be read or rendered.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("the chat template {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file does not contain a chat template.
    #[error(
        "{} does not contain a chat template: {why}\n  expected: {expected}\n  \
         do: set `prompt = {{ template = \"FILE\" }}` in [llm], or use one of the built-in formats",
        .path.display()
    )]
    NoTemplate {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The template is not valid Jinja, rejects the conversation, or exceeds its budget.
    #[error("the chat template {}, line {line}: {why}", .path.display())]
    Jinja {
        /// The file.
        path: PathBuf,
        /// The line of the template.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The template renders to an empty text.
    #[error(
        "the chat template {} renders an empty text for a conversation\n  \
         do: use the template that comes with this model",
        .0.display()
    )]
    Empty(PathBuf),
    /// The template ignores the user's message.
    #[error(
        "the chat template {} ignores the user's message\n  \
         expected: a template that writes the `content` of each of `messages`\n  \
         do: use the template that comes with this model",
        .0.display()
    )]
    IgnoresMessage(PathBuf),
    /// The position of the BOS depends on the conversation.
    #[error(
        "the chat template {} writes the BOS at a position that depends on the conversation, but the video must \
         follow it at a fixed position\n  do: use the template that comes with this model",
        .0.display()
    )]
    VaryingBos(PathBuf),
}
