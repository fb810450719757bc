//! Errors of an evaluation.

use super::{judge_error::JudgeError, problem::Problem, task::Failure};
use crate::{
    disk::{
        checksum::Mismatch,
        whole_file::{advice, reading_advice},
        write_lock::LockError,
    },
    messages::quoted,
};
use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// The maximum number of items of a list that a message shows.
const NAMED: usize = 5;

/// The reason why an evaluation stops.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] crate::Error),
    /// The judge failed.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The benchmark does not exist.
    #[error(
        "{} is not a folder\n  expected: a folder with test_q.json, test_a.json and videos/\n  do: {hint}",
        .path.display()
    )]
    NoBenchmark {
        /// The folder that was expected.
        path: PathBuf,
        /// What to do.
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
        /// The cause.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file does not contain the expected JSON.
    #[error("{}: expected {expected}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The expected contents.
        expected: &'static str,
        /// The parse error.
        source: serde_json::Error,
    },
    /// Items of a benchmark cannot be used.
    #[error(
        "{}: {} wrong\n{}", .folder.display(),
        match .problems.len() { 1 => "an item is".to_owned(), n => format!("{n} items are") },
        FirstFew(.problems)
    )]
    Items {
        /// The folder of the benchmark.
        folder: PathBuf,
        /// The problems, by item.
        problems: Vec<Problem>,
    },
    /// A benchmark has no questions.
    #[error("{}: the list is empty\n  expected: at least one question", .path.display())]
    NoQuestion {
        /// The file.
        path: PathBuf,
    },
    /// The chunk does not exist.
    #[error("--chunk-idx {index}: with {count} chunks, the last index is {}", .count.saturating_sub(1))]
    NoChunk {
        /// The requested chunk.
        index: usize,
        /// The number of chunks.
        count: usize,
    },
    /// There are more chunks than questions.
    #[error(
        "--num-chunks {count}: the benchmark has {total} questions\n  expected: at most as many chunks as questions\n  \
         do: lower --num-chunks"
    )]
    TooManyChunks {
        /// The requested number of chunks.
        count: usize,
        /// The number of questions.
        total: usize,
    },
    /// The folder contains predictions made with other settings.
    #[error(
        "{} was made with other settings\n{differences}\n  \
         do: choose another --out, or use the same settings to resume",
        .path.display()
    )]
    OtherSettings {
        /// The file that records the settings.
        path: PathBuf,
        /// The settings that differ, with both values.
        differences: String,
    },
    /// Another version of the program recorded the settings.
    #[error(
        "{}: these settings have version {found}\n  expected: version {expected}\n  \
         do: continue with the version of merv-host that started the run, or choose another --out",
        .path.display()
    )]
    SettingsVersion {
        /// The file that records the settings.
        path: PathBuf,
        /// Its version, as JSON.
        found: String,
        /// The version that this program reads.
        expected: u64,
    },
    /// Predictions belong to another data set.
    #[error(
        "{}: the prediction for question {} has another question or video than the data set\n  \
         do: choose another --out",
        .path.display(), quoted(.id)
    )]
    OtherQuestion {
        /// The file.
        path: PathBuf,
        /// The question.
        id: String,
    },
    /// Another process is using the same file.
    #[error(transparent)]
    Held(Box<LockError>),
    /// A file was changed after it was written.
    #[error(
        "{}{place}: {}\n  do: restore it from a backup, or remove it: missing questions are asked again",
        .path.display(), Mismatch
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The place in the file, if known.
        place: String,
    },
    /// Too many clips cannot be used.
    #[error(
        "{} of {total} clips cannot be used; --max-bad-fraction allows {allowed}\n{}\n  \
         do: repair the videos, or raise --max-bad-fraction; the answers so far are kept",
        .clips.len(), FirstFew(.clips)
    )]
    TooManyUnusable {
        /// The clips that cannot be used.
        clips: Vec<Failure>,
        /// The number of clips in the chunk.
        total: usize,
        /// The number of clips that may be unusable.
        allowed: usize,
    },
    /// The tokenizer has no token for an option letter.
    #[error(
        "the language model's tokenizer has no token for the letter `{letter}`\n  \
         do: use --strategy letter"
    )]
    NoLetter {
        /// The letter.
        letter: char,
    },
    /// A file contains no predictions.
    #[error(
        "{} does not contain predictions\n  \
         expected: a `…_pred_merge.jsonl` that `eval open-ended` or `eval mcq` wrote, or a judge's `…_gpt.json`",
        .path.display()
    )]
    NoPredictions {
        /// The file.
        path: PathBuf,
    },
    /// A judge was requested for multiple-choice predictions.
    #[error(
        "{} contains multiple-choice predictions, which do not need a judge\n  \
         expected: a `…_pred_merge.jsonl` that `eval open-ended` wrote",
        .path.display()
    )]
    NotOpenEnded {
        /// The file.
        path: PathBuf,
    },
    /// Two results differ in their questions or in their measures.
    #[error("{} and {} cannot be compared: {reason}", .a.display(), .b.display())]
    Incomparable {
        /// The first result.
        a: PathBuf,
        /// The second result.
        b: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A table without results was requested.
    #[error("there are no results to show\n  do: give the `…_report.json` of each model")]
    NoReports,
    /// A file is not a result.
    #[error(
        "{} is not a result: {reason}\n  expected: a `…_report.json` that `eval open-ended`, `eval mcq` or \
         `eval judge` wrote\n  do: give such a file, or run the evaluation again",
        .path.display()
    )]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// Shows the first few items of a list, one per line.
pub(super) struct FirstFew<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for FirstFew<'_, T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_five_items_are_listed() {
        let shown =
            |count: usize| FirstFew(&["a", "b", "c", "d", "e", "f", "g"][..count]).to_string();
        assert_eq!(shown(0), "");
        assert_eq!(shown(2), "- a\n- b");
        assert_eq!(shown(5), "- a\n- b\n- c\n- d\n- e");
        assert_eq!(shown(6), "- a\n- b\n- c\n- d\n- e\n- and 1 more");
        assert_eq!(shown(7), "- a\n- b\n- c\n- d\n- e\n- and 2 more");
    }
}
