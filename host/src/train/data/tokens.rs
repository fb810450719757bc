//! Turns the text of an example into ids and labels, turn by turn, as upstream's `AlignDataset` and
//! `FinetuneDataset` do (`merv/preprocessing/datasets/datasets.py`).

use super::Example;
use crate::{
    prompt::{PromptFormat, VisualMarks},
    tokenizer::{TextTokenizer, TokenizerError},
    train::Task,
};
use merv_plugin_api::IGNORED_LABEL;
use std::sync::Arc;
use thiserror::Error;

/// The tokens and labels of an example's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The token ids, including the BOS token.
    pub ids: Vec<u32>,
    /// For each token its id, or [`IGNORED_LABEL`].
    pub labels: Vec<i64>,
}

/// An example cannot be turned into tokens.
#[derive(Debug, Error)]
pub enum ExampleTokenizerError {
    /// The tokenizer fails.
    #[error(transparent)]
    Text(#[from] TokenizerError),
    /// The chat format does not support system prompts, and the example has one.
    #[error(
        "it has a system prompt, which the chat format `{0}` does not support; remove it, or set `prompt` in the \
         registry's [llm] to a format that supports it"
    )]
    NoSystem(PromptFormat),
}

/// Checks that the chat format supports the example's system prompt, if it has one. A caption is trained on without
/// the text before it, so its system prompt does not matter.
///
/// # Errors
///
/// When the format does not support it.
pub fn check_system(
    example: &Example,
    task: Task,
    format: PromptFormat,
) -> Result<(), ExampleTokenizerError> {
    let system = example.system.as_deref().unwrap_or_default();
    match task {
        Task::Conversation if !system.trim().is_empty() && !format.takes_system() => {
            Err(ExampleTokenizerError::NoSystem(format))
        }
        _ => Ok(()),
    }
}

/// Turns examples into tokens.
pub struct ExampleTokenizer {
    /// The language model's tokenizer.
    pub tokenizer: Arc<TextTokenizer>,
    /// Its chat format.
    pub format: PromptFormat,
    /// How `<image>` and `<video>` in messages are handled.
    pub marks: VisualMarks,
    /// The system prompt of examples that do not have one, for formats that support it.
    pub system: Option<String>,
    /// The part of an example that is trained on.
    pub task: Task,
    /// Maximum number of tokens; the rest is cut off.
    pub max_length: usize,
}

impl ExampleTokenizer {
    /// Returns the tokens of an example. With an image or video, the first label is ignored.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails, or the format does not support the example's system prompt.
    pub fn tokens(&self, example: &Example) -> Result<Tokens, ExampleTokenizerError> {
        let mut tokens = match self.task {
            Task::Caption => self.caption(example)?,
            Task::Conversation => {
                check_system(example, self.task, self.format)?;
                self.conversation(example)?
            }
        };
        tokens.ids.truncate(self.max_length);
        tokens.labels.truncate(self.max_length);
        if example.visual.is_some()
            && let Some(first) = tokens.labels.first_mut()
        {
            *first = IGNORED_LABEL;
        }
        Ok(tokens)
    }

    /// Returns whether an example that is cut to `max_length` still has a token to learn from.
    ///
    /// # Errors
    ///
    /// The same as [`Self::tokens`].
    pub fn leaves_something(&self, example: &Example) -> Result<bool, ExampleTokenizerError> {
        if self.task == Task::Caption {
            return Ok(true);
        }
        check_system(example, self.task, self.format)?;
        let question = self.question(example);
        // The length of the text is usually enough: a token has at least one byte, and there may be a BOS token.
        let length = match question.len() + 1 < self.max_length {
            true => return Ok(true),
            false => self.tokenizer.encode(&question)?.len(),
        };
        Ok(length < self.max_length)
    }

    /// Returns the text before the first reply.
    fn question(&self, example: &Example) -> String {
        let system = example.system.as_deref().or(self.system.as_deref());
        let message = example.turns.first().map_or("", String::as_str);
        let message = self.marks.strip(message);
        let message = self.tokenizer.escape_special_tokens(&message);
        let text = self.format.first_turn(system, &message);
        text.trim_end().to_owned()
    }

    /// Tokenises the last reply and its end. The loss is computed on all of it.
    fn caption(&self, example: &Example) -> Result<Tokens, TokenizerError> {
        let caption = example.turns.last().map_or("", |turn| turn.trim());
        let caption = self.tokenizer.escape_special_tokens(caption);
        let text = format!("{caption}{}", self.format.reply_end());
        let ids = self.tokenizer.encode(&text)?;
        let labels = ids.iter().map(|&id| i64::from(id)).collect();
        Ok(Tokens { ids, labels })
    }

    /// Tokenises each turn separately, without trailing blanks, as the published weights were trained. The loss
    /// is computed on the replies.
    fn conversation(&self, example: &Example) -> Result<Tokens, TokenizerError> {
        let mut ids = self.tokenizer.encode(&self.question(example))?;
        let mut labels = vec![IGNORED_LABEL; ids.len()];
        for (number, turn) in example.turns.iter().enumerate().skip(1) {
            let message = self.marks.strip(turn);
            let message = self.tokenizer.escape_special_tokens(&message);
            let is_reply = number % 2 == 1;
            let text = match is_reply {
                true => self.format.reply(&message),
                false => self.format.turn(&message),
            };
            let text = text.trim_end();
            let has_bos = !is_reply && self.format.has_bos_each_turn();
            let new = if has_bos {
                self.tokenizer.encode(text)?
            } else {
                self.tokenizer.encode_continuation(text)?
            };
            let label = |&id: &u32| {
                if is_reply {
                    i64::from(id)
                } else {
                    IGNORED_LABEL
                }
            };
            labels.extend(new.iter().map(label));
            ids.extend(new);
        }
        Ok(Tokens { ids, labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn form(format: PromptFormat, task: Task) -> ExampleTokenizer {
        let tokenizer = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/lively/llm/tokenizer.json"
        );
        ExampleTokenizer {
            tokenizer: Arc::new(TextTokenizer::load(Path::new(tokenizer)).unwrap()),
            format,
            marks: VisualMarks::default(),
            system: Some("Be brief.".to_owned()),
            task,
            max_length: 512,
        }
    }

    fn example(system: &str) -> Example {
        let json = format!(
            r#"{{"messages": [{system} {{"role": "user", "content": "What?"}}, {{"role": "assistant", "content": "That."}}]}}"#
        );
        Example::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_system_prompt_of_an_example_overrides_the_registrys() {
        let form = form(PromptFormat::Vicuna, Task::Conversation);
        let text = |system: &str| {
            let tokens = form.tokens(&example(system)).unwrap();
            form.tokenizer.decode(&tokens.ids).unwrap()
        };
        let own = text(r#"{"role": "system", "content": "Be kind."},"#);
        assert!(own.contains("Be kind. USER: What?"), "{own}");
        assert!(!own.contains("brief"), "{own}");
        let registrys = text("");
        assert!(registrys.contains("Be brief. USER: What?"), "{registrys}");
        let none = text(r#"{"role": "system", "content": ""},"#);
        assert!(none.trim_start().starts_with("USER: What?"), "{none}");
    }

    #[test]
    fn a_format_that_does_not_support_system_prompts_is_reported() {
        let example = example(r#"{"role": "system", "content": "Be kind."},"#);
        let error = form(PromptFormat::Pure, Task::Conversation).tokens(&example);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("the chat format `pure` does not support"),
            "{error}"
        );
        // A caption is trained on without its question and system prompt.
        assert!(
            form(PromptFormat::Pure, Task::Caption)
                .tokens(&example)
                .is_ok()
        );
    }
}
