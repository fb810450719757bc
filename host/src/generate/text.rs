//! The tokenizer: text to ids, ids to text as they come.

use std::path::{Path, PathBuf};
use thiserror::Error;
use tokenizers::Tokenizer;

/// The tokenizer cannot be read or used.
#[derive(Debug, Error)]
pub enum TextError {
    /// The file is missing or is no tokenizer.
    #[error(
        "{} is no tokenizer: {reason}\n  do: fetch `tokenizer.json` of the language model again",
        .path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A text or ids cannot be converted.
    #[error("the tokenizer {} failed: {reason}", .path.display())]
    Convert {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A `tokenizer.json` of Hugging Face's `tokenizers`.
pub struct TextTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`. Padding and truncation that it may ask for are switched off: texts
    /// are measured against the model's context instead.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no tokenizer.
    pub fn load(path: &Path) -> Result<Self, TextError> {
        let refuse = |reason: String| TextError::Load {
            path: path.to_owned(),
            reason,
        };
        let mut tokenizer =
            Tokenizer::from_file(path).map_err(|error| refuse(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            tokenizer,
        })
    }

    /// The ids of `text`, with what the tokenizer puts around a text: the BOS.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|error| self.failed(&*error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a text that goes on from another: without what the tokenizer puts around a text.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn encode_continued(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| self.failed(&*error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids` without special tokens.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|error| self.failed(&*error))
    }

    fn failed(&self, error: &dyn std::error::Error) -> TextError {
        TextError::Convert {
            path: self.path.clone(),
            reason: error.to_string(),
        }
    }
}

/// Text as it grows, token by token, stripped on both sides as the whole text will be.
pub struct Stream<'t> {
    tokenizer: &'t TextTokenizer,
    ids: Vec<u32>,
    shown: usize,
}

impl<'t> Stream<'t> {
    /// Nothing yet.
    pub fn new(tokenizer: &'t TextTokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            shown: 0,
        }
    }

    /// Adds a token; returns the text that is certain now and was not shown before. What may still
    /// change is held back: an unfinished character, and white space that may be the last.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(self.advance(
            text.trim()
                .trim_end_matches(char::REPLACEMENT_CHARACTER)
                .trim_end(),
        ))
    }

    /// All ids so far, the whole text, and what of it was not shown yet.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn finish(mut self) -> Result<(Vec<u32>, String, String), TextError> {
        let text = self.tokenizer.decode(&self.ids)?.trim().to_owned();
        let rest = self.advance(&text);
        Ok((self.ids, text, rest))
    }

    fn advance(&mut self, text: &str) -> String {
        match text.get(self.shown..) {
            Some(new) => {
                self.shown = text.len();
                new.to_owned()
            }
            None => String::new(),
        }
    }
}
