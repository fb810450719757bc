//! A conversation about one clip. A single answer is a conversation of one turn.

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
    /// The text, without white space at both ends.
    pub text: String,
    /// The ids of its tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// The number of tokens of the prompt, including the chat format.
    pub prompt_tokens: usize,
    /// The number of visual tokens.
    pub visual_tokens: usize,
    /// The weight of each encoder, in the order of the registry. Empty if the fusion is not a weighted sum.
    pub mixer_weights: Vec<(String, f32)>,
    /// The seconds of each stage.
    pub timings: BTreeMap<Stage, f64>,
}

/// A conversation about a clip. The language model keeps its state between turns, so that each turn reads only
/// the new tokens. Created by [`VidLm::chat`](crate::VidLm::chat).
pub struct Chat<'m> {
    responder: &'m Responder,
    registry: &'m Registry,
    visual: &'m Visual,
    past: Conversation,
    /// The state of the language model. It is dropped if a turn fails; the next turn then reads everything
    /// again.
    read: Option<Reading<'m>>,
}

/// A session of the language model and the ids that it has read.
struct Reading<'m> {
    session: Session<'m>,
    /// The ids of the text. The visual tokens are between them.
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

    /// Returns the turns so far.
    pub fn turns(&self) -> &[Turn] {
        self.past.turns()
    }

    /// Removes all turns, but keeps the clip.
    pub fn reset(&mut self) {
        self.past = Conversation::default();
    }

    /// Replaces the turns so far with the turns of an earlier conversation.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer or the template fails.
    pub fn resume(&mut self, turns: &[Turn]) -> Result<(), Error> {
        self.past = self.responder.prompter.resume(turns)?;
        Ok(())
    }

    /// Replies to `message`. The timings are those of this turn only.
    ///
    /// # Errors
    ///
    /// Returns an error if the conversation is too long or the language model fails. The turns are unchanged
    /// then.
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
            // The shared start of all prompts about a clip is a separate prefill: see `Responder::read_clip`.
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
            &embeds,
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
        // The session has not read the last token of a reply that reached its maximum length.
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

/// Returns the number of leading ids of `asked` that were read before. They differ from the past turns only if
/// a template changes earlier text. The result is 0 if they end before the visual tokens. At least one id is
/// left to read, because it gives the first logits.
fn common(read: &[u32], asked: &EncodedPrompt) -> usize {
    let most = asked.ids.len().saturating_sub(1);
    let pairs = read.iter().zip(&asked.ids[..most]);
    let same = pairs.take_while(|(a, b)| a == b).count();
    if same > asked.begin { same } else { 0 }
}
