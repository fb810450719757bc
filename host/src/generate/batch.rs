//! Generates several replies at the same time. Each prompt is prefilled separately. Then every decode step adds one
//! token to each unfinished reply.

use super::{Next, ReplyBuilder, Stop};
use crate::{
    Error,
    plugin::{LanguageModel, PluginTensor, Session},
};
use merv_plugin_api::LogitsAt;

/// A reply to generate.
pub struct ReplyRequest<'m, 't> {
    /// The session of this reply, with the context so far.
    pub session: Session<'m>,
    /// The embeddings to prefill: `[length, width]`, with a length of at least one.
    pub embeds: PluginTensor,
    /// The builder of the reply.
    pub reply: ReplyBuilder<'t>,
}

/// A finished reply.
pub struct FinishedReply {
    /// Its tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
    /// The logits of the first token: `[vocab_size]`.
    pub first_logits: Vec<f32>,
}

/// An unfinished reply.
struct Running<'m, 't> {
    index: usize,
    session: Session<'m>,
    reply: ReplyBuilder<'t>,
    token: u32,
}

/// Generates all replies and returns them in the order of the requests. Each reply is the same as if it were
/// generated alone: the `decode` of a plugin computes every session independently of the others.
///
/// # Errors
///
/// When the language model, a sampler or the tokenizer fails.
pub fn generate_many<'m, 't>(
    model: &'m LanguageModel,
    requests: Vec<ReplyRequest<'m, 't>>,
) -> Result<Vec<FinishedReply>, Error> {
    let mut finished: Vec<Option<FinishedReply>> = Vec::new();
    finished.resize_with(requests.len(), || None);
    let mut first_logits: Vec<Vec<f32>> = Vec::with_capacity(requests.len());
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
    for (index, request) in requests.into_iter().enumerate() {
        let ReplyRequest {
            mut session,
            embeds,
            mut reply,
        } = request;
        let logits = session.prefill(&embeds, LogitsAt::LAST)?;
        let first = logits.view().f32s()?;
        first_logits.push(first.to_vec());
        match reply.next(first, session.len(), model.info(), |_| ())? {
            Next::End(stop) => {
                let first = std::mem::take(&mut first_logits[index]);
                finished[index] = Some(end(reply, stop, first)?);
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
        let mut unfinished = Vec::with_capacity(running.len());
        for (mut one, row) in running
            .into_iter()
            .zip(rows.chunks_exact(model.info().vocab_size as usize))
        {
            match one
                .reply
                .next(row, one.session.len(), model.info(), |_| ())?
            {
                Next::End(stop) => {
                    let first = std::mem::take(&mut first_logits[one.index]);
                    finished[one.index] = Some(end(one.reply, stop, first)?);
                }
                Next::Token(token) => unfinished.push(Running { token, ..one }),
            }
        }
        running = unfinished;
    }
    Ok(finished.into_iter().flatten().collect())
}
