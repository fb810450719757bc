//! Many answers: a clip's part of the prompt is taken in once and shared by all questions about it, and
//! the answers to many questions grow together.

use super::{responder::Responder, visual::Visual};
use crate::{
    Error,
    generate::{
        self, Conversation, EncodedPrompt, FinishedReply, ReplyBuilder, ReplyRequest, Sampler,
        Sampling, Stop, generate_many,
    },
    plugin::Session,
    tokenizer::TextStream,
};
use candle_core::Tensor;

/// What every prompt about a clip begins with, as the language model remembers it: the BOS and the visual
/// tokens.
pub struct Prefix<'m> {
    session: Session<'m>,
    /// Ids of a prompt that stand before the visual tokens: the session has seen them.
    begin: usize,
    visual_tokens: usize,
    mixer_weights: Vec<(String, f32)>,
}

/// A question about a clip.
#[derive(Clone, Copy)]
pub struct PrefixedPrompt<'a, 'm> {
    /// The clip.
    pub prefix: &'a Prefix<'m>,
    /// What is asked.
    pub prompt: &'a str,
}

/// How answers are made. Each is drawn as if it were the only one: all begin at the same seed.
#[derive(Debug, Clone, Copy)]
pub struct AnswerOptions {
    /// How tokens are picked.
    pub sampling: Sampling,
    /// How long each answer may and must be.
    pub limits: generate::ReplyLimits,
}

/// An answer of many.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, stripped.
    pub text: String,
    /// The ids of its tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt, with the chat format around it.
    pub prompt_tokens: usize,
    /// Logits that the first token was picked from: `[vocab_size]`.
    pub first_logits: Vec<f32>,
}

impl<'m> Prefix<'m> {
    /// How much each encoder counted, in the registry's order; nothing where the fusion does not weigh
    /// them, or where there is no clip.
    pub fn mixer_weights(&self) -> &[(String, f32)] {
        &self.mixer_weights
    }
}

impl Responder {
    /// Takes a clip in, for any number of questions.
    ///
    /// # Errors
    ///
    /// When the language model fails.
    pub(crate) fn prefix(&self, visual: &Visual) -> Result<Prefix<'_>, Error> {
        self.prefix_of(Some(&visual.mixed.fused), visual.mixer_weights()?)
    }

    /// What a prompt without a clip begins with.
    ///
    /// # Errors
    ///
    /// When the language model fails.
    pub(crate) fn text_prefix(&self) -> Result<Prefix<'_>, Error> {
        self.prefix_of(None, Vec::new())
    }

    fn prefix_of(
        &self,
        fused: Option<&Tensor>,
        mixer_weights: Vec<(String, f32)>,
    ) -> Result<Prefix<'_>, Error> {
        // What stands before the visual tokens does not depend on what is asked.
        let EncodedPrompt { ids, begin } = self.prompter.encode(&Conversation::default(), "x")?;
        Ok(Prefix {
            session: self.read_clip(&ids[..begin], fused)?,
            begin,
            visual_tokens: fused.map_or(Ok(0), |fused| fused.dim(1))?,
            mixer_weights,
        })
    }

    /// Answers many questions together, each exactly as it would be answered alone. A question that does not
    /// fit has its error at its place.
    ///
    /// # Errors
    ///
    /// When the sampling is wrong or the language model fails.
    pub(crate) fn answer_many(
        &self,
        asks: &[PrefixedPrompt<'_, '_>],
        options: &AnswerOptions,
    ) -> Result<Vec<Result<Answer, Error>>, Error> {
        let mut jobs = Vec::with_capacity(asks.len());
        let mut places = Vec::with_capacity(asks.len());
        for ask in asks {
            let sampler = Sampler::new(options.sampling)?;
            let none = Conversation::default();
            let ids = match self.ask(&none, ask.prompt, ask.prefix.visual_tokens) {
                Ok(asked) => asked.ids,
                Err(error @ Error::PromptTooLong { .. }) => {
                    places.push(Err(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let stream = TextStream::new(self.prompter.tokenizer());
            jobs.push(ReplyRequest {
                session: ask.prefix.session.fork()?,
                embeds: self
                    .llm
                    .embed(ids.get(ask.prefix.begin..).unwrap_or_default())?,
                reply: ReplyBuilder::new(sampler, stream, options.limits, ids.len()),
            });
            places.push(Ok(ids.len()));
        }
        let mut ended = generate_many(&self.llm, jobs)?.into_iter();
        let answers = places.into_iter().filter_map(|place| match place {
            Err(error) => Some(Err(error)),
            Ok(prompt_tokens) => ended.next().map(|one| {
                let FinishedReply {
                    tokens,
                    text,
                    stop,
                    first_logits,
                } = one;
                Ok(Answer {
                    text,
                    tokens,
                    stop,
                    prompt_tokens,
                    first_logits,
                })
            }),
        });
        Ok(answers.collect())
    }

    /// The ids that may stand for `text` as the first token of a reply: as a word of its own and as the
    /// continuation of a word, which are two tokens for most tokenizers.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub(crate) fn first_tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        let tokenizer = self.prompter.tokenizer();
        for context in ["", " ", ":", "\n"] {
            let found = tokenizer.encode_continuation(&format!("{context}{text}"))?;
            if let Some(&last) = found.last()
                && tokenizer.decode(&[last])?.trim() == text
                && !ids.contains(&last)
            {
                ids.push(last);
            }
        }
        Ok(ids)
    }
}
