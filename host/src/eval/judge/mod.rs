//! Judges open-ended answers with any OpenAI-compatible service, directly ([`direct`]) or through its batch
//! interface ([`batch`]), or with the loaded language model ([`local`]).

pub mod batch;
mod client;
pub mod direct;
pub mod local;
mod protocol;
mod verdicts;

pub use client::{Notices, Service};
pub use protocol::{Case, DEFAULT_MODEL, Verdict};
pub use verdicts::{JudgeOutcome, Verdicts};

pub use super::judge_error::JudgeError;

use super::{
    EvalError,
    dataset::{references, text},
    predictions::read_lines,
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Returns the predictions to judge, the common prefix of the output paths (`…/MSVD_gpt`), and the name of the
/// benchmark.
///
/// # Errors
///
/// When the file cannot be read or does not contain open-ended predictions.
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
    // Multiple-choice predictions do not need a judge. Its verdicts would also overwrite those of the letters.
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
