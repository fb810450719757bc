//! Text as it grows, token by token.

use super::{TextError, TextTokenizer};

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
