//! A conversation about one clip: a single answer is its first turn.

use super::{dump::Dump, options::GenerateOptions, responder::Responder, visual::Visual};
use crate::{
    Error, Observer, Stage,
    generate::{
        self, Conversation, EncodedPrompt, GeneratedReply, ReplyBuilder, Sampler, Stop, TextStream,
        Turn,
    },
    plugin::Session,
    registry::Registry,
};
use std::{collections::BTreeMap, time::Instant};

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The text, stripped.
    pub text: String,
    /// The ids of its tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt, with the chat format around it.
    pub prompt_tokens: usize,
    /// Tokens that stand for the clip.
    pub visual_tokens: usize,
    /// How much each encoder counted, in the registry's order; nothing where the fusion does not weigh
    /// them.
    pub mixer_weights: Vec<(String, f32)>,
    /// Seconds by stage.
    pub timings: BTreeMap<Stage, f64>,
}

/// Several turns about a clip. The language model keeps what it has read, so that each turn costs only what
/// is new in it. Made by [`VidLm::chat`](crate::VidLm::chat).
pub struct Chat<'m> {
    responder: &'m Responder,
    registry: &'m Registry,
    visual: &'m Visual,
    past: Conversation,
    /// What the language model has read. A turn that fails takes it away: the next one reads all anew.
    read: Option<Reading<'m>>,
}

/// What a session of the language model has read.
struct Reading<'m> {
    session: Session<'m>,
    /// The ids of its text; the visual tokens stand between them.
    ids: Vec<u32>,
}

impl<'m> Chat<'m> {
    pub(crate) fn new(
        responder: &'m Responder,
        registry: &'m Registry,
        visual: &'m Visual,
    ) -> Self {
        Self {
            responder,
            registry,
            visual,
            past: Conversation::default(),
            read: None,
        }
    }

    /// The turns so far.
    pub fn turns(&self) -> &[Turn] {
        self.past.turns()
    }

    /// Forgets all that was said, but not the clip.
    pub fn reset(&mut self) {
        self.past = Conversation::default();
    }

    /// Goes on from turns that were had elsewhere, in place of those so far.
    ///
    /// # Errors
    ///
    /// When the tokenizer or the template fails.
    pub fn resume(&mut self, turns: &[Turn]) -> Result<(), Error> {
        self.past = self.responder.prompter.resume(turns)?;
        Ok(())
    }

    /// Replies to `message`. The reply's times are those of this turn alone.
    ///
    /// # Errors
    ///
    /// When the conversation is full or the language model fails: it is then as it was before.
    pub fn say(
        &mut self,
        message: &str,
        options: &GenerateOptions,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        let dump = Dump::begin(options, self.registry, None)?;
        self.turn(message, options, dump, observer)
    }

    pub(crate) fn turn(
        &mut self,
        message: &str,
        options: &GenerateOptions,
        dump: Option<Dump>,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        let Self {
            responder,
            visual,
            past,
            read,
            ..
        } = self;
        let sampler = Sampler::new(options.sampling)?;
        let fused = &visual.mixed.fused;
        let visual_tokens = fused.dim(1)?;
        let asked = responder.ask(past, message, visual_tokens)?;
        observer.progress(Stage::Prefill, &responder.entry.id, 0, 1);
        let started = Instant::now();
        let known = read.as_ref().map_or(0, |read| common(&read.ids, &asked));
        let (mut session, known) = match read.take() {
            Some(Reading { mut session, .. }) if known > 0 => {
                if known + visual_tokens < session.len() {
                    session.truncate(known + visual_tokens)?;
                }
                (session, known)
            }
            // What all prompts about a clip share is read by itself: see `Responder::answer_many`.
            _ => {
                let begin = &asked.ids[..asked.begin];
                (responder.read_clip(begin, Some(fused))?, asked.begin)
            }
        };
        let embeds = responder.llm.embed(&asked.ids[known..])?;
        let shared = started.elapsed();
        let GeneratedReply {
            tokens,
            text,
            stop,
            first_logits,
            prefill,
            decode,
        } = generate::generate(
            &mut session,
            embeds.view(),
            ReplyBuilder::new(
                sampler,
                TextStream::new(responder.prompter.tokenizer()),
                options.limits,
                asked.ids.len(),
            ),
            |text| observer.text(text),
        )?;
        if let Some(dump) = dump {
            dump.write(visual, &asked.ids, &first_logits)?;
        }
        // The last token of a reply that was cut off is said, but not read yet.
        let mut ids = [asked.ids.as_slice(), &tokens].concat();
        ids.truncate(session.len() - visual_tokens);
        *read = Some(Reading { session, ids });
        let prompt_tokens = asked.ids.len();
        let turn = Turn {
            message: message.to_owned(),
            reply: text.clone(),
        };
        past.push(asked, &tokens, turn);
        Ok(Reply {
            text,
            tokens,
            stop,
            prompt_tokens,
            visual_tokens,
            mixer_weights: visual.mixer_weights()?,
            timings: BTreeMap::from([
                (Stage::Prefill, (shared + prefill).as_secs_f64()),
                (Stage::Generate, decode.as_secs_f64()),
            ]),
        })
    }
}

/// How many ids at the front of `asked` are read already: all, unless a template writes the past anew. None
/// if it ends before the visual tokens do. One id stays to be read, which gives the first logits.
fn common(read: &[u32], asked: &EncodedPrompt) -> usize {
    let most = asked.ids.len().saturating_sub(1);
    let pairs = read.iter().zip(&asked.ids[..most]);
    let same = pairs.take_while(|(a, b)| a == b).count();
    if same > asked.begin { same } else { 0 }
}
