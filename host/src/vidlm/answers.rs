//! Many answers: a clip's part of the prompt is taken in once and shared by all questions about it, and
//! the answers to many questions grow together.

use super::{VidLm, Visual};
use crate::{
    Error,
    generate::{self, Ended, Growing, Job, Sampler, Sampling, Stop, Stream, generate_many},
    plugin::Session,
};
use merv_plugin_api::{LogitsAt, TensorView};

/// What every prompt about a clip begins with, as the language model remembers it: the BOS and the visual
/// tokens.
pub struct Prefix<'m> {
    session: Session<'m>,
    /// Ids that the tokenizer writes and the session has seen.
    bos: usize,
    visual_tokens: usize,
    mixer_weights: Vec<(String, f32)>,
}

/// A question about a clip.
#[derive(Clone, Copy)]
pub struct Ask<'a, 'm> {
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
    pub limits: generate::Limits,
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

    /// What of a prompt's ids the session has not seen.
    pub(super) fn rest<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        ids.get(self.bos..).unwrap_or_default()
    }

    pub(super) fn into_session(self) -> Session<'m> {
        self.session
    }
}

impl VidLm {
    /// Takes a clip in, for any number of questions.
    ///
    /// # Errors
    ///
    /// When the language model fails.
    pub fn prefix(&self, visual: &Visual) -> Result<Prefix<'_>, Error> {
        let fused = visual.mixed.fused.flatten_all()?.to_vec1::<f32>()?;
        self.begin(&fused, visual.mixed.fused.dim(1)?, visual.mixer_weights()?)
    }

    /// What a prompt without a clip begins with.
    ///
    /// # Errors
    ///
    /// When the language model fails.
    pub fn text_prefix(&self) -> Result<Prefix<'_>, Error> {
        self.begin(&[], 0, Vec::new())
    }

    /// The BOS, unless the tokenizer writes none, then the visual tokens `[tokens, width]`.
    fn begin(
        &self,
        fused: &[f32],
        visual_tokens: usize,
        mixer_weights: Vec<(String, f32)>,
    ) -> Result<Prefix<'_>, Error> {
        let info = self.llm.info();
        let written = self.tokenizer.encode("")?;
        let bos = written
            .first()
            .filter(|first| info.bos.into_option() == Some(**first));
        let mut embeds = match bos {
            Some(&bos) => self.llm.embed(&[bos])?.view().f32s()?.to_vec(),
            None => Vec::new(),
        };
        embeds.extend_from_slice(fused);
        let mut session = self.llm.open()?;
        let width = info.width as usize;
        let shape = [embeds.len() / width, width];
        if shape[0] > 0 {
            session.prefill(TensorView::new(&embeds, &shape)?, LogitsAt::None)?;
        }
        Ok(Prefix {
            session,
            bos: usize::from(bos.is_some()),
            visual_tokens,
            mixer_weights,
        })
    }

    /// Answers many questions together, each exactly as [`Self::answer`] would. A question that does not
    /// fit has its error at its place.
    ///
    /// # Errors
    ///
    /// When the sampling is wrong or the language model fails.
    pub fn answer_many(
        &self,
        asks: &[Ask<'_, '_>],
        options: &AnswerOptions,
    ) -> Result<Vec<Result<Answer, Error>>, Error> {
        let mut jobs = Vec::with_capacity(asks.len());
        let mut places = Vec::with_capacity(asks.len());
        for ask in asks {
            let sampler = Sampler::new(options.sampling)?;
            let ids = match self.prompt_ids(ask.prompt, ask.prefix.visual_tokens) {
                Ok(ids) => ids,
                Err(error @ Error::PromptTooLong { .. }) => {
                    places.push(Err(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let stream = Stream::new(&self.tokenizer);
            jobs.push(Job {
                session: ask.prefix.session.fork()?,
                embeds: self.llm.embed(ask.prefix.rest(&ids))?,
                reply: Growing::new(sampler, stream, options.limits, ids.len()),
            });
            places.push(Ok(ids.len()));
        }
        let mut ended = generate_many(&self.llm, jobs)?.into_iter();
        let answers = places.into_iter().filter_map(|place| match place {
            Err(error) => Some(Err(error)),
            Ok(prompt_tokens) => ended.next().map(|one| {
                let Ended {
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
    pub fn first_tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        for context in ["", " ", ":", "\n"] {
            let found = self.tokenizer.encode(&format!("{context}{text}"))?;
            if let Some(&last) = found.last()
                && self.tokenizer.decode(&[last])?.trim() == text
                && !ids.contains(&last)
            {
                ids.push(last);
            }
        }
        Ok(ids)
    }
}
