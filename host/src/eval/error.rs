//! What can go wrong in an evaluation.

use super::{judge_error::JudgeError, problem::Problem, task::Failure};
use crate::{
    disk::{
        hold::HoldError,
        sealed::Mismatch,
        whole_file::{advice, reading_advice},
    },
    messages::shown,
};
use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// Items of a list that a message names.
const NAMED: usize = 5;

/// Why an evaluation stops.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] crate::Error),
    /// The judge cannot be asked.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// There is no such benchmark.
    #[error(
        "{} is not a folder\n  expected: a folder with test_q.json, test_a.json and videos/\n  do: {hint}",
        .path.display()
    )]
    NoBenchmark {
        /// Where it would be.
        path: PathBuf,
        /// What may have been meant.
        hint: String,
    },
    /// The name of a benchmark is a path.
    #[error(
        "`{0}` is not the name of a benchmark\n  expected: the name of a folder in --data-dir, not a path"
    )]
    NotAName(String),
    /// A file cannot be read.
    #[error("{} cannot be read\n  do: {}", .path.display(), reading_advice(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not the JSON that was expected.
    #[error("{}: expected {expected}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// Items of a benchmark cannot be used.
    #[error(
        "{}: {} wrong\n{}", .folder.display(),
        match .problems.len() { 1 => "an item is".to_owned(), n => format!("{n} items are") },
        Some5(.problems)
    )]
    Items {
        /// The benchmark's folder.
        folder: PathBuf,
        /// What is wrong with which.
        problems: Vec<Problem>,
    },
    /// A benchmark without questions.
    #[error("{}: there is no question\n  expected: at least one", .path.display())]
    NoQuestion {
        /// The file.
        path: PathBuf,
    },
    /// There is no such chunk.
    #[error("--chunk-idx {index}: of {count} chunks the last is {}", .count.saturating_sub(1))]
    NoChunk {
        /// The chunk that was asked for.
        index: usize,
        /// Chunks there are.
        count: usize,
    },
    /// There are more chunks than questions.
    #[error(
        "--num-chunks {count}: the benchmark has {total} questions\n  expected: as many chunks as questions at most\n  \
         do: lower --num-chunks"
    )]
    TooManyChunks {
        /// The chunks that were asked for.
        count: usize,
        /// The questions there are.
        total: usize,
    },
    /// Predictions of other settings are in the way.
    #[error(
        "{} was made with other settings\n{differences}\n  \
         do: choose another --out, or give the same settings to go on",
        .path.display()
    )]
    OtherSettings {
        /// The file that tells them.
        path: PathBuf,
        /// Setting by setting: there and here.
        differences: String,
    },
    /// Predictions are about another data set.
    #[error(
        "{}: the prediction for question {} is about another question or video than the data set's\n  \
         do: choose another --out",
        .path.display(), shown(.id)
    )]
    OtherQuestion {
        /// The file.
        path: PathBuf,
        /// The question.
        id: String,
    },
    /// Another process is at work on the same file.
    #[error(transparent)]
    Held(Box<HoldError>),
    /// A file is not what was written.
    #[error(
        "{}{place}: {}\n  do: bring it back from a copy, or remove it: what is missing is asked again",
        .path.display(), Mismatch
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, if that is known.
        place: String,
    },
    /// Too many videos cannot be used.
    #[error(
        "{} of {clips} clips cannot be used; --max-bad-fraction allows {allowed}\n{}\n  \
         do: repair the videos, or allow more; what is answered is kept",
        .bad.len(), Some5(.bad)
    )]
    TooManyBad {
        /// What failed.
        bad: Vec<Failure>,
        /// Clips of the chunk.
        clips: usize,
        /// How many may fail.
        allowed: usize,
    },
    /// An option letter is no token.
    #[error(
        "the language model's tokenizer has no token for the letter `{letter}`\n  \
         do: use --strategy letter"
    )]
    NoLetter {
        /// The letter.
        letter: char,
    },
    /// A file holds no predictions.
    #[error(
        "{} holds no predictions\n  \
         expected: a `…_pred_merge.jsonl` that `eval open-ended` or `eval mcq` wrote, or a judge's `…_gpt.json`",
        .path.display()
    )]
    NoPredictions {
        /// The file.
        path: PathBuf,
    },
    /// A judge is asked about what needs none.
    #[error(
        "{} holds multiple-choice predictions, which need no judge\n  \
         expected: a `…_pred_merge.jsonl` that `eval open-ended` wrote",
        .path.display()
    )]
    NotOpenEnded {
        /// The file.
        path: PathBuf,
    },
    /// Two results are not about the same questions, or not measured alike.
    #[error("{} and {} cannot be compared: {reason}", .a.display(), .b.display())]
    Incomparable {
        /// The first.
        a: PathBuf,
        /// The second.
        b: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A table of nothing.
    #[error("there is no result to show\n  do: give the `…_report.json` of each model")]
    NoReports,
    /// A file is no result.
    #[error(
        "{} is not a result: {reason}\n  expected: a `…_report.json` that `eval open-ended`, `eval mcq` or \
         `eval judge` wrote\n  do: name such a file, or run the evaluation again",
        .path.display()
    )]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The first few of a list, a line each.
pub(super) struct Some5<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Some5<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().take(NAMED).enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}- {item}")?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "\n- and {more} more"),
        }
    }
}
