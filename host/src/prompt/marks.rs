//! The marks that a training set leaves in its messages, where a picture or a video was.

use std::{fmt, str::FromStr};

/// What happens to the marks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VisualMarks {
    /// `<image>` goes and `<video>` stays: the published weights were trained so.
    #[default]
    KeepVideo,
    /// Both go.
    RemoveAll,
}

impl VisualMarks {
    /// The message without the marks that go, stripped on both sides.
    pub fn strip(self, message: &str) -> String {
        let mut text = message.replace("<image>", "");
        if self == Self::RemoveAll {
            text = text.replace("<video>", "");
        }
        text.trim_matches(is_python_space).to_owned()
    }
}

/// What Python's `str.strip` strips: the weights were trained on text that went through it.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

impl fmt::Display for VisualMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepVideo => "keep-video",
            Self::RemoveAll => "remove-all",
        })
    }
}

impl FromStr for VisualMarks {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        match name {
            "keep-video" => Ok(Self::KeepVideo),
            "remove-all" => Ok(Self::RemoveAll),
            _ => Err("`keep-video` (only `<image>` goes) or `remove-all` (`<video>` goes too)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_blanks_go_as_in_training() {
        use VisualMarks::{KeepVideo, RemoveAll};
        let cases = [
            ("Describe it.", KeepVideo, "Describe it."),
            ("  Describe it. \n", KeepVideo, "Describe it."),
            ("<image>\nWhat is it?", KeepVideo, "What is it?"),
            ("<video>\nWhat is it?", KeepVideo, "<video>\nWhat is it?"),
            ("<video>\nWhat is it?", RemoveAll, "What is it?"),
            ("a <image>b<image>", RemoveAll, "a b"),
            ("\u{1f}\u{a0}x\u{3000}", KeepVideo, "x"),
            ("<image>", KeepVideo, ""),
        ];
        for (message, marks, expected) in cases {
            assert_eq!(marks.strip(message), expected, "{message:?}");
        }
        assert_eq!("remove-all".parse(), Ok(RemoveAll));
        assert!("none".parse::<VisualMarks>().is_err());
    }
}
