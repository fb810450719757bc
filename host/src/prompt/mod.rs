//! Chat formats: how a user's message becomes the text that the language model sees.
//!
//! One file a format. A format knows how a turn is written and how a reply ends; it does not
//! tokenise, and it adds no BOS, because the tokenizer does.

mod pure;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A chat format that this version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PromptFormat {
    /// `In: {message}\nOut: `, what base models are finetuned on.
    #[default]
    Pure,
}

/// What happens to the marks that a training set leaves in its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VisualMarks {
    /// `<image>` goes and `<video>` stays: the published weights were trained so.
    #[default]
    KeepVideo,
    /// Both go.
    RemoveAll,
}

/// The name of a chat format that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PromptFormatError {
    /// MERV has the format, and this version does not.
    #[error("prompt format `{0}` is not supported yet; use `pure`")]
    NotSupported(String),
    /// There is no such format.
    #[error("unknown prompt format; the formats are {}", KNOWN.join(", "))]
    Unknown,
}

/// Every format that MERV has; those that run come from [`PromptFormat::from_str`].
const KNOWN: [&str; 5] = ["pure", "llama2-chat", "vicuna", "llama3", "qwen2.5"];

impl PromptFormat {
    /// The text of a conversation's first turn up to where the reply begins, right-stripped.
    ///
    /// `message` is the user's, as typed; its marks are treated as the published weights want
    /// it. `system` is written by the formats that have a place for it, see
    /// [`PromptFormat::takes_system`].
    pub fn first_turn(&self, system: Option<&str>, message: &str) -> String {
        self.first_turn_with(system, message, VisualMarks::default())
    }

    /// [`PromptFormat::first_turn`] with a choice of what happens to the marks.
    pub fn first_turn_with(
        &self,
        _system: Option<&str>,
        message: &str,
        marks: VisualMarks,
    ) -> String {
        let message = marks.strip(message);
        match self {
            Self::Pure => pure::human_turn(&message),
        }
    }

    /// What ends a reply.
    pub fn reply_end(&self) -> &'static str {
        match self {
            Self::Pure => pure::REPLY_END,
        }
    }

    /// Whether the format has a place for a system prompt.
    pub fn takes_system(&self) -> bool {
        match self {
            Self::Pure => false,
        }
    }
}

impl VisualMarks {
    /// The message without the marks that go, stripped on both sides.
    pub fn strip(&self, message: &str) -> String {
        let mut text = message.replace("<image>", "");
        if *self == Self::RemoveAll {
            text = text.replace("<video>", "");
        }
        text.trim_matches(is_python_space).to_owned()
    }
}

/// What Python's `str.strip` strips: the weights were trained on text that went through it.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

impl FromStr for PromptFormat {
    type Err = PromptFormatError;

    fn from_str(name: &str) -> Result<Self, PromptFormatError> {
        match name {
            "pure" => Ok(Self::Pure),
            _ if KNOWN.contains(&name) => Err(PromptFormatError::NotSupported(name.to_owned())),
            _ => Err(PromptFormatError::Unknown),
        }
    }
}

impl fmt::Display for PromptFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pure => "pure",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_blanks_go_as_in_training() {
        let cases = [
            ("Describe it.", VisualMarks::KeepVideo, "Describe it."),
            ("  Describe it. \n", VisualMarks::KeepVideo, "Describe it."),
            (
                "<image>\nWhat is it?",
                VisualMarks::KeepVideo,
                "What is it?",
            ),
            (
                "<video>\nWhat is it?",
                VisualMarks::KeepVideo,
                "<video>\nWhat is it?",
            ),
            (
                "<video>\nWhat is it?",
                VisualMarks::RemoveAll,
                "What is it?",
            ),
            ("a <image>b<image>", VisualMarks::RemoveAll, "a b"),
            ("\u{1f}\u{a0}x\u{3000}", VisualMarks::KeepVideo, "x"),
            ("<image>", VisualMarks::KeepVideo, ""),
        ];
        for (message, marks, expected) in cases {
            assert_eq!(marks.strip(message), expected, "{message:?}");
        }
    }

    #[test]
    fn names_are_known_refused_or_unknown() {
        assert_eq!("pure".parse(), Ok(PromptFormat::Pure));
        assert_eq!(PromptFormat::Pure.to_string(), "pure");
        for name in ["llama2-chat", "vicuna", "llama3", "qwen2.5"] {
            let error = name.parse::<PromptFormat>().unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("use `pure`"),
                "{error}"
            );
        }
        let error = "puree".parse::<PromptFormat>().unwrap_err().to_string();
        assert!(
            error.contains("unknown") && error.contains("llama2-chat"),
            "{error}"
        );
    }

    #[test]
    fn a_turn_strips_its_message() {
        let format = PromptFormat::Pure;
        assert_eq!(format.first_turn(None, " <image>Hi "), "In: Hi\nOut:");
        assert_eq!(
            format.first_turn_with(None, "<video> Hi", VisualMarks::RemoveAll),
            "In: Hi\nOut:"
        );
        assert_eq!(format.reply_end(), "</s>");
        assert!(!format.takes_system());
    }
}
