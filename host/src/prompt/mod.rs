//! Chat formats: they convert a conversation to the text that the language model reads.
//!
//! Each built-in format has its own file. [`template`] handles Jinja templates that come with a model. A format
//! defines how a turn is written and how a reply ends. It does not tokenise and does not add the BOS: the
//! tokenizer does both.

mod llama2_chat;
mod llama3;
mod marks;
mod pure;
mod qwen2_5;
mod style;
pub mod template;
mod vicuna;

pub use marks::VisualMarks;
pub use template::{Template, TemplateError};

use std::fmt;
use std::str::FromStr;

use style::Style;
use thiserror::Error;

/// A built-in chat format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PromptFormat {
    /// `In: {message}\nOut: `, the format used to fine-tune base models.
    #[default]
    Pure,
    /// `[INST] {message} [/INST]`.
    Llama2Chat,
    /// `USER: {message} ASSISTANT: `.
    Vicuna,
    /// Headers in `<|start_header_id|>`, as in Llama 3 and 3.1.
    Llama3,
    /// Headers in `<|im_start|>`, as in Qwen2.5.
    Qwen25,
}

/// The name does not match any chat format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("one of the chat formats, {}", known())]
pub struct PromptFormatError;

fn known() -> String {
    let names = PromptFormat::ALL.map(|format| format!("`{format}`"));
    format!("{} and `{TEMPLATE}`", names.join(", "))
}

/// The value in a registry that selects the template that comes with the tokenizer.
pub const TEMPLATE: &str = "template";

impl PromptFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [
        Self::Pure,
        Self::Llama2Chat,
        Self::Vicuna,
        Self::Llama3,
        Self::Qwen25,
    ];

    fn style(self) -> &'static Style {
        match self {
            Self::Pure => &pure::PURE,
            Self::Llama2Chat => &llama2_chat::LLAMA2_CHAT,
            Self::Vicuna => &vicuna::VICUNA,
            Self::Llama3 => &llama3::LLAMA3,
            Self::Qwen25 => &qwen2_5::QWEN2_5,
        }
    }

    /// Returns the first turn of a conversation up to the beginning of the reply. Trailing white space is
    /// stripped, because each turn is tokenised separately, as in training.
    ///
    /// `message` is the user's message after [`VisualMarks::strip`]. `system` replaces the format's own system
    /// prompt. If it is empty, the header is omitted.
    pub fn first_turn(self, system: Option<&str>, message: &str) -> String {
        let style = self.style();
        let system = style.system.map(|default| system.unwrap_or(default).trim());
        (style.user_turn)(system.filter(|system| !system.is_empty()), message)
    }

    /// Returns a later turn, like [`Self::first_turn`] but without a system prompt.
    pub fn turn(self, message: &str) -> String {
        (self.style().user_turn)(None, message)
    }

    /// Returns a reply followed by its end marker. An empty reply becomes a single space, as in training.
    pub fn reply(self, reply: &str) -> String {
        let reply = if reply.is_empty() { " " } else { reply };
        format!("{reply}{}", self.reply_end())
    }

    /// Returns the text that ends a reply.
    pub fn reply_end(self) -> &'static str {
        self.style().reply_end
    }

    /// Whether a BOS precedes every user message, and not only the first. The tokenizer writes it.
    pub fn has_bos_each_turn(self) -> bool {
        self.style().bos_each_turn
    }

    /// Whether the format supports a system prompt.
    pub fn takes_system(self) -> bool {
        self.style().system.is_some()
    }
}

impl FromStr for PromptFormat {
    type Err = PromptFormatError;

    fn from_str(name: &str) -> Result<Self, PromptFormatError> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.style().name == name)
            .ok_or(PromptFormatError)
    }
}

impl fmt::Display for PromptFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.style().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_unknown_names_are_refused() {
        for format in PromptFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "puree".parse::<PromptFormat>().unwrap_err().to_string();
        assert!(
            error.contains("llama2-chat") && error.contains("`template`"),
            "{error}"
        );
    }

    #[test]
    fn a_system_prompt_replaces_the_default() {
        let first = |format: PromptFormat, system| format.first_turn(system, "Hi");
        let vicuna = first(PromptFormat::Vicuna, None);
        assert!(
            vicuna.starts_with("A chat between a curious user"),
            "{vicuna}"
        );
        assert_eq!(
            first(PromptFormat::Vicuna, Some(" Be kind. ")),
            "Be kind. USER: Hi ASSISTANT:"
        );
        for format in PromptFormat::ALL {
            assert_eq!(first(format, Some("")), format.turn("Hi"), "{format}");
            assert_eq!(
                first(format, Some("Be kind.")).contains("Be kind."),
                format.takes_system(),
                "{format}"
            );
        }
    }

    #[test]
    fn turns_have_no_trailing_white_space() {
        for format in PromptFormat::ALL {
            for message in ["What happens?", "", "two\nlines"] {
                let turn = format.turn(message);
                assert_eq!(turn.trim_end(), turn, "{format}");
                assert!(turn.contains(message), "{format}");
            }
            assert_eq!(format.reply(""), format!(" {}", format.reply_end()));
        }
        assert_eq!(PromptFormat::Pure.first_turn(None, "Hi"), "In: Hi\nOut:");
        assert_eq!(PromptFormat::Pure.reply("Yes."), "Yes.</s>");
    }
}
