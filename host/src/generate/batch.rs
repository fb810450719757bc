//! Many replies at once: each prompt is taken in by itself, then all replies grow together, a token each
//! at a time, and leave when they end.

use super::{Next, ReplyBuilder, Stop};
use crate::{
    Error,
    plugin::{LanguageModel, Session},
};
use merv_plugin_api::{LogitsAt, TensorBuf};

/// A reply to make.
pub struct ReplyRequest<'m, 't> {
    /// What the model has seen before, for this reply alone.
    pub session: Session<'m>,
    /// What it sees next: `[length, width]`, at least one.
    pub embeds: TensorBuf,
    /// The reply.
    pub reply: ReplyBuilder<'t>,
}

/// A reply that was made.
pub struct FinishedReply {
    /// Its tokens, without the end.
    pub tokens: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
    /// Logits that the first token was picked from: `[vocab_size]`.
    pub first_logits: Vec<f32>,
}

/// A reply that has not ended.
struct Running<'m, 't> {
    index: usize,
    session: Session<'m>,
    reply: ReplyBuilder<'t>,
    token: u32,
}

/// Makes all replies; the answer to each job is at its place. Each is what it would be alone: a plugin's
/// `decode` computes every session as if the others were not there.
///
/// # Errors
///
/// When the language model, a sampler or the tokenizer fails.
pub fn generate_many<'m, 't>(
    model: &'m LanguageModel,
    jobs: Vec<ReplyRequest<'m, 't>>,
) -> Result<Vec<FinishedReply>, Error> {
    let mut ended: Vec<Option<FinishedReply>> = Vec::new();
    ended.resize_with(jobs.len(), || None);
    let mut logits_of: Vec<Vec<f32>> = Vec::with_capacity(jobs.len());
    let mut running: Vec<Running<'m, 't>> = Vec::new();
    let end = |reply: ReplyBuilder<'t>, stop, first_logits| -> Result<FinishedReply, Error> {
        let (tokens, text, _) = reply.finish()?;
        Ok(FinishedReply {
            tokens,
            text,
            stop,
            first_logits,
        })
    };
    for (index, job) in jobs.into_iter().enumerate() {
        let ReplyRequest {
            mut session,
            embeds,
            mut reply,
        } = job;
        let logits = session.prefill(embeds.view(), LogitsAt::Last)?;
        let first = logits.view().f32s()?;
        logits_of.push(first.to_vec());
        match reply.next(first, session.len(), model.info(), |_| ())? {
            Next::End(stop) => {
                ended[index] = Some(end(reply, stop, std::mem::take(&mut logits_of[index]))?);
            }
            Next::Token(token) => running.push(Running {
                index,
                session,
                reply,
                token,
            }),
        }
    }
    while !running.is_empty() {
        let tokens: Vec<u32> = running.iter().map(|one| one.token).collect();
        let mut sessions: Vec<_> = running.iter_mut().map(|one| &mut one.session).collect();
        let logits = model.decode(&mut sessions, &tokens)?;
        let rows = logits.view().f32s()?;
        let mut still = Vec::with_capacity(running.len());
        for (mut one, row) in running
            .into_iter()
            .zip(rows.chunks_exact(model.info().vocab_size as usize))
        {
            match one
                .reply
                .next(row, one.session.len(), model.info(), |_| ())?
            {
                Next::End(stop) => {
                    let first = std::mem::take(&mut logits_of[one.index]);
                    ended[one.index] = Some(end(one.reply, stop, first)?);
                }
                Next::Token(token) => still.push(Running { token, ..one }),
            }
        }
        running = still;
    }
    // Every job has ended: none is left running.
    Ok(ended.into_iter().flatten().collect())
}
