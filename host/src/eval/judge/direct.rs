//! Sends a chat request for each case, several at the same time.

use super::{
    super::EvalError,
    Case, JudgeError, JudgeOutcome, Verdict, Verdicts,
    client::{Client, Content, Service},
};
use serde_json::Value;
use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
};

/// The maximum number of requests for a case whose replies are not verdicts.
const MAX_ATTEMPTS: usize = 3;

/// Judges the pending cases. `progress` is called with the number of judged cases and their total.
///
/// # Errors
///
/// When a request fails or a verdict cannot be written. The verdicts so far are kept.
pub fn judge(
    service: &Service,
    concurrency: usize,
    verdicts: &mut Verdicts,
    cases: &[Case],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), EvalError> {
    let client = Client::new(service)?;
    let pending = verdicts.pending(cases);
    let model = verdicts.judge().to_owned();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..concurrency.clamp(1, pending.len().max(1)) {
            let (sender, client, pending, model) = (sender.clone(), &client, &pending, &model);
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(case) = pending.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    let outcome = ask(client, case, model);
                    if outcome.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if sender.send((*case, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut failed = None;
        // Replies to requests that were already sent are kept even after a failure: they may have been paid for.
        for (done, (case, outcome)) in receiver.into_iter().enumerate() {
            match outcome {
                Ok(outcome) => {
                    let added = verdicts.add(case, outcome);
                    if added.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    added?;
                    progress(done + 1, pending.len());
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    })
}

/// Asks until the reply is a verdict, at most [`MAX_ATTEMPTS`] times. Returns the last reply.
fn ask(client: &Client, case: &Case, model: &str) -> Result<JudgeOutcome, JudgeError> {
    let body = case.body(model);
    let mut reply = String::new();
    for _ in 0..MAX_ATTEMPTS {
        reply = match client.json("/chat/completions", Content::Json(&body), content) {
            Ok(reply) => reply,
            Err(JudgeError::Filtered(message)) => return Ok(JudgeOutcome::Refused(message)),
            Err(error) => return Err(error),
        };
        if Verdict::parse(&reply).is_some() {
            break;
        }
    }
    Ok(JudgeOutcome::Reply(reply))
}

/// Returns the content of a chat completion. A completion without content is an empty reply.
pub(super) fn content(answer: &Value) -> Option<String> {
    let message = answer.pointer("/choices/0/message")?;
    match message.get("content") {
        Some(Value::String(text)) => Some(text.clone()),
        _ => Some(String::new()),
    }
}
