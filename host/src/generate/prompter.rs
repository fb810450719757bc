//! Converts a conversation to the ids that the language model reads.

use crate::{
    Error,
    prompt::{PromptFormat, Template, VisualMarks, template::Message},
    tokenizer::{TextTokenizer, TokenizerError},
};
use std::sync::OnceLock;

/// How a conversation is written as a prompt.
pub enum PromptStyle {
    /// By a format: each turn is written and tokenised separately, as in training.
    Format(PromptFormat),
    /// By a chat template, which renders the whole conversation.
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
    /// The ids before the visual tokens that a template rendered first.
    begin: OnceLock<Vec<u32>>,
}

/// A message and the reply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The message of the user.
    pub message: String,
    /// The reply of the model.
    pub reply: String,
}

/// The conversation so far.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    turns: Vec<Turn>,
    /// The ids of the conversation, up to the last token of the last reply.
    ids: Vec<u32>,
}

/// The ids of a conversation, up to the point where the next reply begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The ids.
    pub ids: Vec<u32>,
    /// The number of ids before the visual tokens: the BOS, or none.
    pub begin: usize,
}

impl Conversation {
    /// Returns the turns, in order.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Adds a turn: the encoded prompt, the tokens of the reply, and the texts.
    pub fn push(&mut self, encoded: EncodedPrompt, tokens: &[u32], turn: Turn) {
        self.ids = encoded.ids;
        self.ids.extend_from_slice(tokens);
        self.turns.push(turn);
    }
}

impl Prompter {
    /// Creates a prompter. `bos` and `eos` are used if the tokenizer and the template do not define these tokens.
    /// `system` replaces the system prompt of the format.
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

    /// Returns the tokenizer and drops the rest.
    pub fn into_tokenizer(self) -> TextTokenizer {
        self.tokenizer
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Encodes the conversation with one more message, up to the point where the reply begins.
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

    /// Encodes a conversation from another session.
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

    /// Returns the tokens of a reply without the end token.
    fn reply(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let PromptStyle::Format(format) = &self.style else {
            // A template renders the whole conversation each time.
            return Ok(Vec::new());
        };
        let text = &self.tokenizer.escape_special_tokens(text);
        let mut tokens = self.tokenizer.encode_continuation(&format.reply(text))?;
        if let Some(end) = self.reply_end
            && tokens.last() == Some(&end)
        {
            tokens.pop();
            return Ok(tokens);
        }
        // The end of the format is not a single token of this tokenizer.
        self.tokenizer.encode_continuation(text)
    }

    fn encode_format(
        &self,
        format: PromptFormat,
        past: &Conversation,
        message: &str,
    ) -> Result<EncodedPrompt, TokenizerError> {
        let message = self.marks.strip(message);
        let message = self.tokenizer.escape_special_tokens(&message);
        let begin = self.tokenizer.begin().len();
        let ids = if past.turns.is_empty() {
            let text = format.first_turn(self.system.as_deref(), &message);
            self.tokenizer.encode(&text)?
        } else {
            let end = match self.reply_end {
                Some(end) => vec![end],
                None => self.tokenizer.encode_continuation(format.reply_end())?,
            };
            let turn = format.turn(&message);
            let turn = if format.has_bos_each_turn() {
                self.tokenizer.encode(&turn)?
            } else {
                self.tokenizer.encode_continuation(&turn)?
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
        let plain = |role, content: &str| Message {
            role,
            content: self.marks.strip(content),
        };
        let typed = |role, content: &str| {
            let content = self.marks.strip(content);
            plain(role, &self.tokenizer.escape_special_tokens(&content))
        };
        let system = self.system.as_deref().filter(|text| !text.is_empty());
        let mut messages: Vec<Message> = system
            .map(|text| plain("system", text))
            .into_iter()
            .collect();
        for turn in &past.turns {
            messages.push(typed("user", &turn.message));
            messages.push(typed("assistant", &turn.reply));
        }
        messages.push(typed("user", message));
        let text = template.render(&messages)?;
        // Templates may omit old turns.
        if past.turns.is_empty() {
            template.check_uses_message(&messages, &text)?;
        }
        let (ids, begin) = self.tokens_of(template, &messages, &text)?;
        // The prefix with the visual tokens is shared by all prompts, so the ids before them must not change.
        if self.begin.get_or_init(|| ids[..begin].to_vec()) != &ids[..begin] {
            return Err(template.varying_bos().into());
        }
        Ok(EncodedPrompt { ids, begin })
    }

    /// Returns the ids of a rendered template with one BOS: the one that the template writes or, if it does not write
    /// one, that of the tokenizer. The second value is the number of ids up to and including the BOS, if the BOS is at
    /// the front.
    fn tokens_of(
        &self,
        template: &Template,
        messages: &[Message],
        text: &str,
    ) -> Result<(Vec<u32>, usize), Error> {
        let begin = self.tokenizer.begin();
        let written = template.find_bos(messages, text)?;
        let bos = begin.first().and_then(|&id| self.tokenizer.token(id));
        let bos = bos.unwrap_or_default();
        if !begin.is_empty() && text.starts_with(&bos) {
            let ids = self.tokenizer.encode(&text[bos.len()..])?;
            return Ok((ids, begin.len()));
        }
        // A template may write white space before the BOS.
        let literal = text.len() - text.trim_start().len();
        let literal = (!bos.is_empty() && text[literal..].starts_with(&bos))
            .then_some(literal..literal + bos.len());
        let Some(place) = written.or(literal) else {
            return Ok((self.tokenizer.encode(text)?, begin.len()));
        };
        let ids = self.tokenizer.encode_continuation(text)?;
        let mut front = 0;
        if text[..place.start].trim().is_empty() {
            let before = self.tokenizer.encode_continuation(&text[..place.end])?;
            if ids.starts_with(&before) {
                front = before.len();
            }
        }
        Ok((ids, front))
    }
}
