//! Answers to many questions. The visual tokens of a clip are read once for all questions about it, and the
//! answers are generated in one batch.

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

/// A session that has read the start of every prompt about a clip: the BOS and the visual tokens.
pub struct Prefix<'m> {
    session: Session<'m>,
    /// The number of ids before the visual tokens. The session has read them.
    begin: usize,
    visual_tokens: usize,
    mixer_weights: Vec<(String, f32)>,
}

/// A question about a clip.
#[derive(Clone, Copy)]
pub struct PrefixedPrompt<'a, 'm> {
    /// The clip.
    pub prefix: &'a Prefix<'m>,
    /// The question.
    pub prompt: &'a str,
}

/// How answers are generated. Each answer is sampled with the same seed, as if it were the only one.
#[derive(Debug, Clone, Copy)]
pub struct AnswerOptions {
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// The minimum and maximum length of each answer.
    pub limits: generate::ReplyLimits,
}

/// One of many answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, without white space at both ends.
    pub text: String,
    /// The ids of its tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// The number of tokens of the prompt, including the chat format.
    pub prompt_tokens: usize,
    /// The logits of the first token: `[vocab_size]`.
    pub first_logits: Vec<f32>,
}

impl<'m> Prefix<'m> {
    /// Returns the weight of each encoder, in the order of the registry. The list is empty if the fusion is not
    /// a weighted sum, or without a clip.
    pub fn mixer_weights(&self) -> &[(String, f32)] {
        &self.mixer_weights
    }
}

impl Responder {
    /// Reads a clip for any number of questions.
    ///
    /// # Errors
    ///
    /// Returns an error if the language model fails.
    pub(crate) fn prefix(&self, visual: &Visual) -> Result<Prefix<'_>, Error> {
        self.prefix_of(Some(&visual.mixed.fused), visual.mixer_weights()?)
    }

    /// Reads the start of a prompt without a clip.
    ///
    /// # Errors
    ///
    /// Returns an error if the language model fails.
    pub(crate) fn text_prefix(&self) -> Result<Prefix<'_>, Error> {
        self.prefix_of(None, Vec::new())
    }

    fn prefix_of(
        &self,
        fused: Option<&Tensor>,
        mixer_weights: Vec<(String, f32)>,
    ) -> Result<Prefix<'_>, Error> {
        // The ids before the visual tokens do not depend on the question.
        let EncodedPrompt { ids, begin } = self.prompter.encode(&Conversation::default(), "x")?;
        Ok(Prefix {
            session: self.read_clip(&ids[..begin], fused)?,
            begin,
            visual_tokens: fused.map_or(Ok(0), |fused| fused.dim(1))?,
            mixer_weights,
        })
    }

    /// Answers many questions in one batch. Each answer is the same as for a single question. For a question
    /// that is too long, the list contains an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the sampling settings are not valid or the language model fails.
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

    /// Returns the ids that can represent `text` as the first token of a reply. Most tokenizers have one token
    /// for the start of a word and another for its continuation.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer fails.
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
