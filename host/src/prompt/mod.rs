//! Chat formats: how a conversation becomes the text that the language model sees.
//!
//! One file a format, and [`template`] for those that a model brings as a Jinja template. A format knows how
//! a turn is written and how a reply ends; it does not tokenise, and it adds no BOS, because the tokenizer
//! does.

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

/// A chat format of MERV's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PromptFormat {
    /// `In: {message}\nOut: `, what base models are finetuned on.
    #[default]
    Pure,
    /// `[INST] {message} [/INST]`.
    Llama2Chat,
    /// `USER: {message} ASSISTANT: `.
    Vicuna,
    /// Headers in `<|start_header_id|>`, of Llama-3 and 3.1.
    Llama3,
    /// Headers in `<|im_start|>`.
    Qwen25,
}

/// The name of no chat format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("one of the chat formats, {}", known())]
pub struct PromptFormatError;

fn known() -> String {
    let names = PromptFormat::ALL.map(|format| format!("`{format}`"));
    format!("{} and `{TEMPLATE}`", names.join(", "))
}

/// What a registry writes for the template that comes with the tokenizer.
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

    /// The text of a conversation's first turn up to where the reply begins, right-stripped: each turn is
    /// tokenised by itself, and so were they in training.
    ///
    /// `message` is the user's, its marks and outer blanks gone ([`VisualMarks::strip`]). `system` replaces
    /// the format's own system prompt; an empty one leaves the header out.
    pub fn first_turn(self, system: Option<&str>, message: &str) -> String {
        let style = self.style();
        let system = style.system.map(|default| system.unwrap_or(default).trim());
        (style.human)(system.filter(|system| !system.is_empty()), message)
    }

    /// The text of a later turn, as [`Self::first_turn`].
    pub fn turn(self, message: &str) -> String {
        (self.style().human)(None, message)
    }

    /// The text of a reply with its end; an empty one is a blank, as in training.
    pub fn reply(self, reply: &str) -> String {
        let reply = if reply.is_empty() { " " } else { reply };
        format!("{reply}{}", self.reply_end())
    }

    /// What ends a reply.
    pub fn reply_end(self) -> &'static str {
        self.style().reply_end
    }

    /// Whether the BOS stands before every message of the user, not before the first alone. It is for the
    /// tokenizer to write.
    pub fn has_bos_each_turn(self) -> bool {
        self.style().bos_each_turn
    }

    /// Whether the format has a place for a system prompt.
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
    fn names_are_known_or_unknown() {
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
    fn a_system_prompt_replaces_the_formats_own() {
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
    fn turns_end_without_a_blank() {
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
