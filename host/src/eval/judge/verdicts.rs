//! The verdicts so far, one per line, so that a killed run neither loses nor repeats any. At the end, the file that
//! the original writes is created from them.

use super::{
    super::{
        EvalError, EvalReport,
        files::{held, unreadable, unwritable},
        report::write_json,
        score::{Measure, Scored},
    },
    Case, Verdict,
};
use crate::disk::{
    checksum::Mismatch,
    digest::Sha256Digest,
    journal::{self, Journal},
    write_lock::WriteLock,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

/// The number of hexadecimal digits in the name of a case.
const DIGEST_DIGITS: usize = 32;

/// The outcome of judging a prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JudgeOutcome {
    /// The reply of the judge.
    Reply(String),
    /// The service refused to process the case, usually because of its content filter.
    Refused(String),
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    question_id: String,
    judge: String,
    /// The name of the case, which depends on the prediction.
    case: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// The verdicts of one judge on one file of predictions.
pub struct Verdicts {
    path: PathBuf,
    /// The prefix of the paths: `…/MSVD_gpt`.
    stem: PathBuf,
    judge: String,
    journal: Journal,
    /// The outcomes by case.
    known: HashMap<String, JudgeOutcome>,
    notices: Vec<String>,
    _lock: WriteLock,
}

impl Verdicts {
    /// Opens `<stem>.jsonl` and reads the verdicts in it. Only one process can have it open.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or another process is using it.
    pub fn open(stem: &Path, judge: &str) -> Result<Self, EvalError> {
        let path = with_ending(stem, ".jsonl");
        let lock = WriteLock::beside(&path, "eval judge").map_err(held)?;
        let journal = Journal::open(&path).map_err(|source| unwritable(&path, source))?;
        let lines = journal::read(&path).map_err(|source| unreadable(&path, source))?;
        let notices = lines.damaged.iter().map(|number| {
            format!(
                "{}, line {number}: {Mismatch}; its case is judged again",
                path.display()
            )
        });
        let notices = notices.collect();
        let lines = lines
            .valid
            .iter()
            .filter_map(|(_, line)| serde_json::from_str::<Line>(line).ok());
        let known = lines.filter(|line| line.judge == judge).filter_map(|line| {
            match (line.reply, line.refused) {
                (Some(reply), _) => Some((line.case, JudgeOutcome::Reply(reply))),
                (None, Some(why)) => Some((line.case, JudgeOutcome::Refused(why))),
                (None, None) => None,
            }
        });
        Ok(Self {
            known: known.collect(),
            stem: stem.to_owned(),
            judge: judge.to_owned(),
            path,
            journal,
            notices,
            _lock: lock,
        })
    }

    /// Returns the notices for the user since the last call: the damaged verdicts.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Returns the name of the judge.
    pub fn judge(&self) -> &str {
        &self.judge
    }

    /// Returns the path `<stem>_<what>`.
    pub fn path(&self, what: &str) -> PathBuf {
        with_ending(&self.stem, &format!("_{what}"))
    }

    /// Returns the cases that have not been judged, in order.
    pub fn pending<'c>(&self, cases: &'c [Case]) -> Vec<&'c Case> {
        let open = |case: &&Case| !self.known.contains_key(&digest(case));
        cases.iter().filter(open).collect()
    }

    /// Adds the outcome of a case. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn add(&mut self, case: &Case, outcome: JudgeOutcome) -> Result<(), EvalError> {
        let key = digest(case);
        let (reply, refused) = match &outcome {
            JudgeOutcome::Reply(reply) => (Some(reply.clone()), None),
            JudgeOutcome::Refused(why) => (None, Some(why.clone())),
        };
        let line = Line {
            question_id: case.id.clone(),
            judge: self.judge.clone(),
            case: key.clone(),
            reply,
            refused,
        };
        let written = serde_json::to_string(&line)
            .map_err(io::Error::from)
            .and_then(|line| self.journal.add([line]))
            .and_then(|()| self.journal.sync());
        written.map_err(|source| unwritable(&self.path, source))?;
        self.known.insert(key, outcome);
        Ok(())
    }

    /// Writes `<stem>.json` as in the original, `<stem>_report.json` and `<stem>_report.md`. A reply that is not a
    /// verdict is omitted and counted; the original treats it as a "no" with score 0.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn conclude(&self, benchmark: &str, cases: &[Case]) -> Result<EvalReport, EvalError> {
        let mut verdicts = Map::new();
        let mut scored = Vec::new();
        let mut unparsable = 0;
        for case in cases {
            let verdict = match self.known.get(&digest(case)) {
                Some(JudgeOutcome::Reply(reply)) => Verdict::parse(reply),
                Some(JudgeOutcome::Refused(_)) => None,
                None => continue,
            };
            let Some(Verdict { yes, score }) = verdict else {
                unparsable += 1;
                continue;
            };
            let pred = if yes { "yes" } else { "no" };
            // An integer is written without a decimal point, as by the judge.
            let shown: Value = if score.fract() == 0.0 {
                json!(score as i64)
            } else {
                json!(score)
            };
            let judged = json!({
                "q": case.question, "a": case.answer, "pred": case.pred, "video_name": case.video,
            });
            verdicts.insert(
                case.id.clone(),
                json!([{"pred": pred, "score": shown}, judged]),
            );
            scored.push(Scored {
                id: case.id.clone(),
                video: case.video.clone(),
                values: vec![
                    (Measure::Judge, f64::from(yes)),
                    (Measure::JudgeScore, score),
                ],
                unparsable: false,
            });
        }
        let judge = format!("judged by {}", self.judge);
        let mut report = EvalReport::new(benchmark, &judge, &scored, &HashMap::new(), Vec::new());
        report.unparsable = unparsable;
        write_json(&with_ending(&self.stem, ".json"), &verdicts)?;
        report.write(|what| self.path(what))?;
        Ok(report)
    }
}

/// Returns the name of a case, a digest of what is judged.
pub(super) fn digest(case: &Case) -> String {
    let mut digest = Sha256::new();
    for part in [&case.id, &case.question, &case.answer, &case.pred] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    let digest = Sha256Digest::finish(digest).to_string();
    digest.chars().take(DIGEST_DIGITS).collect()
}

fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(ending);
    path.into()
}
