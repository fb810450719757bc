//! Placeholders (`<image>`, `<video>`) that training sets put in messages to mark where the image or video was.

use std::{fmt, str::FromStr};

/// Which placeholders are removed from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VisualMarks {
    /// Removes `<image>` and keeps `<video>`, as in the training of the published weights.
    #[default]
    KeepVideo,
    /// Removes both.
    RemoveAll,
}

impl VisualMarks {
    /// Removes the placeholders from the message and strips white space at both ends.
    pub fn strip(self, message: &str) -> String {
        let mut text = message.replace("<image>", "");
        if self == Self::RemoveAll {
            text = text.replace("<video>", "");
        }
        text.trim_matches(is_python_space).to_owned()
    }
}

/// Whether Python's `str.strip` strips the character: the training text was stripped with it.
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
            _ => {
                Err("`keep-video` (removes only `<image>`) or `remove-all` (removes `<video>` too)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_outer_blanks_are_removed_as_in_training() {
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
