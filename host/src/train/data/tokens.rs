//! From an example's text to ids and labels, turn by turn as upstream's `AlignDataset` and
//! `FinetuneDataset` (`merv/preprocessing/datasets/datasets.py`).

use super::Example;
use crate::{
    prompt::{PromptFormat, VisualMarks},
    tokenizer::{TextError, TextTokenizer},
    train::Task,
};
use merv_plugin_api::IGNORED_LABEL;
use std::sync::Arc;

/// The text of an example as the language model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The ids, from the BOS on.
    pub ids: Vec<u32>,
    /// For each id itself, or [`IGNORED_LABEL`].
    pub labels: Vec<i64>,
}

/// How examples become tokens.
pub struct TextForm {
    /// The language model's tokenizer.
    pub tokenizer: Arc<TextTokenizer>,
    /// Its chat format.
    pub format: PromptFormat,
    /// What happens to `<image>` and `<video>` in messages.
    pub marks: VisualMarks,
    /// The system prompt, for formats that take one.
    pub system: Option<String>,
    /// What is trained on.
    pub task: Task,
    /// Ids at most; what comes after is cut off.
    pub max_length: usize,
}

impl TextForm {
    /// The tokens of an example. With vision the first label never counts.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn tokens(&self, example: &Example) -> Result<Tokens, TextError> {
        let mut tokens = match self.task {
            Task::Caption => self.caption(example)?,
            Task::Conversation => self.conversation(example)?,
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

    /// The last reply and its end; the loss is on all of it.
    fn caption(&self, example: &Example) -> Result<Tokens, TextError> {
        let caption = example.turns.last().map_or("", |turn| turn.trim());
        let text = format!("{caption}{}", self.format.reply_end());
        let ids = self.tokenizer.encode(&text)?;
        let labels = ids.iter().map(|&id| i64::from(id)).collect();
        Ok(Tokens { ids, labels })
    }

    /// Each turn tokenised by itself, right-stripped: the published weights learned it so. The loss is on
    /// the replies.
    fn conversation(&self, example: &Example) -> Result<Tokens, TextError> {
        let (mut ids, mut labels) = (Vec::new(), Vec::new());
        for (number, turn) in example.turns.iter().enumerate() {
            let message = self.marks.strip(turn);
            let is_reply = number % 2 == 1;
            let text = match number {
                0 => self.format.first_turn(self.system.as_deref(), &message),
                _ if is_reply => self.format.reply(&message),
                _ => self.format.turn(&message),
            };
            let text = text.trim_end();
            // The BOS stands at the beginning alone.
            let new = match number {
                0 => self.tokenizer.encode(text)?,
                _ => self.tokenizer.encode_more(text)?,
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
