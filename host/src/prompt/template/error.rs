//! What can be wrong with a chat template.

use std::{io, path::PathBuf};
use thiserror::Error;

/// A chat template cannot be read or does not render.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("the chat template {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds none.
    #[error(
        "{} holds no chat template: {why}\n  expected: {expected}\n  \
         do: write `prompt = {{ template = \"FILE\" }}` in [llm], or one of the formats that have a name",
        .path.display()
    )]
    NoTemplate {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
        /// What was to be there.
        expected: &'static str,
    },
    /// It is no Jinja, it refuses the conversation, or it does not end.
    #[error("the chat template {}, line {line}: {why}", .path.display())]
    Jinja {
        /// The file.
        path: PathBuf,
        /// The line of the template.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It renders to nothing.
    #[error(
        "the chat template {} writes nothing for a conversation\n  do: use the template of this very model",
        .0.display()
    )]
    Empty(PathBuf),
    /// It renders the same whatever the user says.
    #[error(
        "the chat template {} writes nothing of what the user says\n  \
         expected: one that writes the `content` of each of `messages`\n  do: use the template of this very model",
        .0.display()
    )]
    Deaf(PathBuf),
    /// Where its BOS is depends on what is said.
    #[error(
        "the chat template {} puts the BOS at a place that depends on the conversation, so that there is no fixed \
         place for the video behind it\n  do: use the template of this very model",
        .0.display()
    )]
    MovedBos(PathBuf),
}
