//! The language model with its tokenizer and chat format. It answers questions about visual tokens.

use crate::{
    Error,
    generate::{Conversation, EncodedPrompt, Prompter},
    plugin::{LanguageModel, Session},
    registry::LlmEntry,
};
use candle_core::Tensor;
use merv_plugin_api::{LogitsAt, TensorView};

/// A language model with its tokenizer and chat format.
pub(crate) struct Responder {
    pub(crate) entry: LlmEntry,
    pub(crate) llm: LanguageModel,
    pub(crate) prompter: Prompter,
}

impl Responder {
    /// Encodes a conversation with one more message, and checks that it is not too long.
    pub(crate) fn ask(
        &self,
        past: &Conversation,
        message: &str,
        visual_tokens: usize,
    ) -> Result<EncodedPrompt, Error> {
        let asked = self.prompter.encode(past, message)?;
        let tokens = asked.ids.len();
        let entry = &self.entry;
        let context = self.llm.info().context_length as usize;
        let limit = entry.prompt_tokens(context, visual_tokens);
        if tokens <= limit {
            return Ok(asked);
        }
        let why = if limit < entry.max_length {
            format!("because the context of {context} also contains {visual_tokens} visual tokens")
        } else {
            "the registry's `max_length`".to_owned()
        };
        Err(if past.turns().is_empty() {
            Error::PromptTooLong { tokens, limit, why }
        } else {
            Error::ConversationFull { tokens, limit, why }
        })
    }

    /// Returns the ids of the shortest prompt.
    ///
    /// # Errors
    ///
    /// When there is no room for it, and as [`Self::ask`].
    pub(crate) fn shortest(&self, visual_tokens: usize) -> Result<Vec<u32>, Error> {
        match self.ask(&Conversation::default(), "?", visual_tokens) {
            Ok(asked) => Ok(asked.ids),
            Err(Error::PromptTooLong { tokens, limit, why }) => {
                Err(Error::NoRoomForPrompts { tokens, limit, why })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns a session that has read `begin` and the visual tokens `[1, tokens, width]`. This is a separate
    /// prefill even for a single prompt, so that an answer is bit-identical whether or not the session is
    /// shared.
    pub(crate) fn read_clip(
        &self,
        begin: &[u32],
        fused: Option<&Tensor>,
    ) -> Result<Session<'_>, Error> {
        let mut embeds = self.llm.embed(begin)?.f32s()?.into_owned();
        if let Some(fused) = fused {
            embeds.extend(fused.flatten_all()?.to_vec1::<f32>()?);
        }
        let width = self.llm.info().width as usize;
        let shape = [embeds.len() / width, width];
        let mut session = self.llm.open()?;
        if shape[0] > 0 {
            session.prefill(TensorView::new(&embeds, &shape)?, LogitsAt::NONE)?;
        }
        Ok(session)
    }
}
