//! From a conversation to the ids that the language model reads.

use crate::{
    Error,
    prompt::{PromptFormat, Template, VisualMarks, template::Message},
    tokenizer::{TextError, TextTokenizer},
};
use std::sync::OnceLock;

/// How a conversation is written.
pub enum PromptStyle {
    /// Turn after turn, each tokenised by itself as in training.
    Format(PromptFormat),
    /// By a template, as a whole.
    Template(Box<Template>),
}

/// Writes conversations for one language model.
pub struct Prompter {
    style: PromptStyle,
    system: Option<String>,
    marks: VisualMarks,
    tokenizer: TextTokenizer,
    /// The token that ends a reply.
    reply_end: Option<u32>,
    /// What a template's text began with before visual tokens.
    begin: OnceLock<Vec<u32>>,
}

/// A message and the reply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What the user said.
    pub message: String,
    /// What the model answered.
    pub reply: String,
}

/// What was said so far.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    turns: Vec<Turn>,
    /// The ids of it all, up to the last reply's last token.
    ids: Vec<u32>,
}

/// A conversation that waits for a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Its ids.
    pub ids: Vec<u32>,
    /// How many of them stand before the visual tokens: the BOS, or nothing.
    pub begin: usize,
}

impl Conversation {
    /// The turns, in order.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Adds what was encoded, and the tokens and the text of the reply to it.
    pub fn push(&mut self, encoded: EncodedPrompt, tokens: &[u32], turn: Turn) {
        self.ids = encoded.ids;
        self.ids.extend_from_slice(tokens);
        self.turns.push(turn);
    }
}

impl Prompter {
    /// A prompter for a model whose text begins with `bos` and ends with `eos`, where the tokenizer and the
    /// template do not know better. `system` replaces the format's own system prompt.
    pub fn new(
        mut style: PromptStyle,
        system: Option<String>,
        marks: VisualMarks,
        tokenizer: TextTokenizer,
        (bos, eos): (Option<u32>, Option<u32>),
    ) -> Self {
        let reply_end = match &mut style {
            PromptStyle::Format(format) => tokenizer.id(format.reply_end()).or(eos),
            PromptStyle::Template(template) => {
                let bos = tokenizer.begin().first().copied().or(bos);
                for (name, id) in [("bos_token", bos), ("eos_token", eos)] {
                    let text = id.and_then(|id| tokenizer.token(id));
                    template.set_default_token(name, text.unwrap_or_default());
                }
                None
            }
        };
        Self {
            style,
            system,
            marks,
            tokenizer,
            reply_end,
            begin: OnceLock::new(),
        }
    }

    /// The tokenizer alone.
    pub fn into_tokenizer(self) -> TextTokenizer {
        self.tokenizer
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The conversation with one more message, up to where the reply to it begins.
    ///
    /// # Errors
    ///
    /// When the tokenizer or the template fails.
    pub fn encode(&self, past: &Conversation, message: &str) -> Result<EncodedPrompt, Error> {
        match &self.style {
            PromptStyle::Format(format) => Ok(self.encode_format(*format, past, message)?),
            PromptStyle::Template(template) => self.encode_template(template, past, message),
        }
    }

    /// A conversation that was had elsewhere.
    ///
    /// # Errors
    ///
    /// When the tokenizer or the template fails.
    pub fn resume(&self, turns: &[Turn]) -> Result<Conversation, Error> {
        let mut past = Conversation::default();
        for turn in turns {
            let encoded = self.encode(&past, &turn.message)?;
            let tokens = self.reply(&turn.reply)?;
            past.push(encoded, &tokens, turn.clone());
        }
        Ok(past)
    }

    /// The tokens of a reply without its end.
    fn reply(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let PromptStyle::Format(format) = &self.style else {
            // A template writes the whole conversation anew each time.
            return Ok(Vec::new());
        };
        let text = &self.tokenizer.typed(text);
        let mut tokens = self.tokenizer.encode_more(&format.reply(text))?;
        if let Some(end) = self.reply_end
            && tokens.last() == Some(&end)
        {
            tokens.pop();
            return Ok(tokens);
        }
        // The format's end is no token of this tokenizer.
        self.tokenizer.encode_more(text)
    }

    fn encode_format(
        &self,
        format: PromptFormat,
        past: &Conversation,
        message: &str,
    ) -> Result<EncodedPrompt, TextError> {
        let message = self.marks.strip(message);
        let message = self.tokenizer.typed(&message);
        let begin = self.tokenizer.begin().len();
        let ids = if past.turns.is_empty() {
            let text = format.first_turn(self.system.as_deref(), &message);
            self.tokenizer.encode(&text)?
        } else {
            let end = match self.reply_end {
                Some(end) => vec![end],
                None => self.tokenizer.encode_more(format.reply_end())?,
            };
            let turn = format.turn(&message);
            let turn = if format.has_bos_each_turn() {
                self.tokenizer.encode(&turn)?
            } else {
                self.tokenizer.encode_more(&turn)?
            };
            [past.ids.clone(), end, turn].concat()
        };
        Ok(EncodedPrompt { ids, begin })
    }

    fn encode_template(
        &self,
        template: &Template,
        past: &Conversation,
        message: &str,
    ) -> Result<EncodedPrompt, Error> {
        let said = |role, content: &str| Message {
            role,
            content: self.marks.strip(content),
        };
        let typed = |role, content: &str| {
            let content = self.marks.strip(content);
            said(role, &self.tokenizer.typed(&content))
        };
        let system = self.system.as_deref().filter(|text| !text.is_empty());
        let mut messages: Vec<Message> = system
            .map(|text| said("system", text))
            .into_iter()
            .collect();
        for turn in &past.turns {
            messages.push(typed("user", &turn.message));
            messages.push(typed("assistant", &turn.reply));
        }
        messages.push(typed("user", message));
        let text = template.render(&messages)?;
        // Templates may leave out what lies far behind.
        if past.turns.is_empty() {
            template.check_heard(&messages, &text)?;
        }
        let (ids, begin) = self.tokens_of(template, &messages, &text)?;
        // Visual tokens stand behind it: whatever is said, it has to be the same.
        if self.begin.get_or_init(|| ids[..begin].to_vec()) != &ids[..begin] {
            return Err(template.moved_bos().into());
        }
        Ok(EncodedPrompt { ids, begin })
    }

    /// The ids of what a template rendered, with one BOS: the template's own or, if it writes none, the
    /// tokenizer's. The second number says how many stand up to the BOS, if it is at the front.
    fn tokens_of(
        &self,
        template: &Template,
        messages: &[Message],
        text: &str,
    ) -> Result<(Vec<u32>, usize), Error> {
        let begin = self.tokenizer.begin();
        let written = template.bos_written(messages, text)?;
        let bos = begin.first().and_then(|&id| self.tokenizer.token(id));
        let bos = bos.unwrap_or_default();
        if !begin.is_empty() && text.starts_with(&bos) {
            let ids = self.tokenizer.encode(&text[bos.len()..])?;
            return Ok((ids, begin.len()));
        }
        // A template may write white space before it.
        let literal = text.len() - text.trim_start().len();
        let literal = (!bos.is_empty() && text[literal..].starts_with(&bos))
            .then_some(literal..literal + bos.len());
        let Some(place) = written.or(literal) else {
            return Ok((self.tokenizer.encode(text)?, begin.len()));
        };
        let ids = self.tokenizer.encode_more(text)?;
        let mut front = 0;
        if text[..place.start].trim().is_empty() {
            let before = self.tokenizer.encode_more(&text[..place.end])?;
            if ids.starts_with(&before) {
                front = before.len();
            }
        }
        Ok((ids, front))
    }
}
