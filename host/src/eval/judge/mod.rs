//! A judge's word on open-ended answers: any OpenAI-compatible service, asked directly ([`direct`]) or
//! through its batch interface ([`batch`]), or the loaded language model ([`local`]).

pub mod batch;
mod client;
pub mod direct;
pub mod local;
mod protocol;
mod verdicts;

pub use client::{Notices, Service};
pub use protocol::{Case, DEFAULT_MODEL, Verdict};
pub use verdicts::{Outcome, Verdicts};

use super::{
    EvalError,
    dataset::{references, text},
    store::read_lines,
};
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a judge cannot be asked.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// The service requires a key, and none was given.
    #[error(
        "{url} wants a key, and there is none\n  \
         do: set $OPENAI_API_KEY, name a file with --key-file, or let a model judge with --local"
    )]
    NoKey {
        /// The address.
        url: String,
    },
    /// The key cannot be sent.
    #[error(
        "the key holds characters that no key has\n  do: look at $OPENAI_API_KEY or the key file"
    )]
    BadKey,
    /// The address is none.
    #[error("`{0}` is no address\n  do: set $OPENAI_BASE_URL to one as https://api.openai.com/v1")]
    BadUrl(String),
    /// The service does not know us.
    #[error(
        "{url}: access denied: {said}\n  do: {}",
        if *.with_key { "check the key" } else { "set $OPENAI_API_KEY, or --key-file" }
    )]
    Denied {
        /// The address.
        url: String,
        /// What the service said.
        said: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// The service will not do what is asked, ever.
    #[error("{url} answered {status}: {said}")]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What the service said.
        said: String,
    },
    /// The service will not process this content.
    #[error("the service refuses the content: {0}")]
    Filtered(String),
    /// All tries failed.
    #[error(
        "{url} failed {tries} times; the last time: {last}\n  \
         do: run the same command later: what is judged is kept"
    )]
    GaveUp {
        /// The address.
        url: String,
        /// How often it was asked.
        tries: u32,
        /// What went wrong last.
        last: String,
    },
    /// Cases came back without an answer, again and again.
    #[error(
        "{cases} cases came back without an answer\n  \
         do: run the same command again: what is judged is kept"
    )]
    Unanswered {
        /// How many.
        cases: usize,
    },
    /// A batch failed.
    #[error("the batch `{id}` ended as `{status}`: {said}")]
    Batch {
        /// The batch.
        id: String,
        /// How it ended.
        status: String,
        /// What the service said.
        said: String,
    },
}

/// The predictions to judge, what file names begin with (`…/MSVD_gpt`), and the benchmark's name.
///
/// # Errors
///
/// When the file cannot be read or holds no open-ended predictions.
pub fn cases(predictions: &Path) -> Result<(Vec<Case>, PathBuf, String), EvalError> {
    let none = || EvalError::NoPredictions {
        path: predictions.to_owned(),
    };
    if !predictions.exists() {
        return Err(EvalError::Read {
            path: predictions.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        });
    }
    let lines = read_lines(predictions)?;
    // Their letters need no judge, and its verdicts would take the place of what the letters gave.
    if lines
        .iter()
        .any(|line| line.fields.contains_key("answer_char"))
    {
        return Err(EvalError::NotOpenEnded {
            path: predictions.to_owned(),
        });
    }
    let cases: Vec<Case> = lines
        .iter()
        .filter_map(|line| {
            let get = |key| text(&line.fields, key).ok();
            let id = get("question_id")?;
            Some(Case {
                video: get("video_name").unwrap_or_else(|| id.clone()),
                question: get("question")?,
                answer: protocol::answer(&references(&line.fields).ok()?),
                pred: get("pred")?,
                id,
            })
        })
        .collect();
    let name = predictions
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(none)?;
    if cases.is_empty() {
        return Err(none());
    }
    let benchmark = name
        .strip_suffix("_pred_merge.jsonl")
        .or_else(|| name.strip_suffix(".jsonl"))
        .unwrap_or(name)
        .to_owned();
    Ok((
        cases,
        predictions.with_file_name(format!("{benchmark}_gpt")),
        benchmark,
    ))
}
