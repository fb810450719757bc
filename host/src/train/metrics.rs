//! `metrics.jsonl`, with one line per step for people, plots and trackers; and the same values as events for
//! TensorBoard.

use super::{
    TrainError,
    run_folder::{EVENTS, METRICS},
};
use crate::{
    disk::{
        checksum::Mismatch,
        journal::{self, Journal},
        whole_file,
    },
    train::tensorboard::EventWriter,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The metrics of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The number of completed steps, including this one.
    pub step: u64,
    /// The number of completed epochs, with a fraction.
    pub epoch: f64,
    /// The mean loss over the labels of the step.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of the gradient over all trained parts, before clipping.
    pub gradient_norm: f64,
    /// The number of tokens in the language model's input, including visual tokens.
    pub tokens: u64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// The number of examples in the step, without broken ones.
    pub examples: u64,
    /// The duration of the step.
    pub seconds: f64,
    /// The part of that time spent waiting for examples to be read.
    pub data_wait: f64,
    /// The mean weight of each encoder, if the fusion weighs them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mixer_weights: BTreeMap<String, f64>,
    /// The loss on the held-out examples, if it was computed at this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
}

impl StepMetrics {
    /// Returns the values that TensorBoard draws curves of, with their tags.
    fn scalars(&self) -> impl Iterator<Item = (String, f64)> {
        let named = [
            ("loss", Some(self.loss)),
            ("validation_loss", self.validation_loss),
            ("learning_rate", Some(self.learning_rate)),
            ("gradient_norm", Some(self.gradient_norm)),
            ("tokens_per_second", Some(self.tokens_per_second)),
            ("data_wait", Some(self.data_wait)),
        ];
        let named = named.into_iter();
        let named = named.filter_map(|(tag, value)| Some((tag.to_owned(), value?)));
        let weights = self.mixer_weights.iter();
        named.chain(weights.map(|(id, weight)| (format!("mixer_weights/{id}"), *weight)))
    }
}

/// The open `metrics.jsonl`, and the TensorBoard events.
pub(super) struct MetricsLog {
    path: PathBuf,
    journal: Journal,
    events: EventWriter,
}

impl MetricsLog {
    /// Opens the file of a run that has completed `step` steps. Removes the lines of later steps, which no
    /// checkpoint includes, and a line that a kill cut short. Also removes damaged lines, and calls `warn` for
    /// each.
    pub(super) fn open(
        run: &Path,
        step: u64,
        mut warn: impl FnMut(&str),
    ) -> Result<Self, TrainError> {
        let path = run.join(METRICS);
        let failed = |source| TrainError::Write {
            path: path.clone(),
            source,
        };
        let lines = journal::read(&path).map_err(|source| TrainError::Read {
            path: path.clone(),
            source,
        })?;
        for number in &lines.damaged {
            warn(&format!(
                "{}, line {number}: {Mismatch}; the line is removed",
                path.display()
            ));
        }
        let mut steps = BTreeSet::new();
        let mut kept: Vec<&str> = Vec::new();
        for (number, line) in &lines.valid {
            let metrics = serde_json::from_str::<StepMetrics>(line);
            let Some(found) = metrics.ok().filter(|metrics| metrics.step <= step) else {
                continue;
            };
            if steps.insert(found.step) {
                kept.push(line);
            } else {
                warn(&format!(
                    "{}, line {number}: step {} has a line already; this one is removed",
                    path.display(),
                    found.step
                ));
            }
        }
        let gone = step.saturating_sub((kept.len() + lines.damaged.len()) as u64);
        if gone > 0 {
            warn(&format!(
                "{}: {gone} of the {step} completed steps have no line, and are missing from the curves; nothing else \
                 is lost",
                path.display()
            ));
        }
        let kept: String = kept.iter().map(|line| format!("{line}\n")).collect();
        // Always a new file, so that a file that another program has open does not change.
        whole_file::write(&path, kept.as_bytes()).map_err(failed)?;
        let journal = Journal::open(&path).map_err(failed)?;
        let events = EventWriter::create(&run.join(EVENTS)).map_err(failed)?;
        Ok(Self {
            path,
            journal,
            events,
        })
    }

    /// Appends a line, and the events.
    pub(super) fn push(&mut self, metrics: &StepMetrics) -> Result<(), TrainError> {
        let line = serde_json::to_string(metrics).map_err(io::Error::from);
        line.and_then(|line| self.journal.add([line]))
            .map_err(|source| self.failed(source))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        for (tag, value) in metrics.scalars() {
            let written = self.events.scalar(&tag, metrics.step, now, value);
            written.map_err(|source| TrainError::Write {
                path: self.events.path().to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// Syncs all lines to the disk.
    pub(super) fn sync(&self) -> Result<(), TrainError> {
        self.journal.sync().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> TrainError {
        TrainError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn metrics(step: u64) -> StepMetrics {
        StepMetrics {
            step,
            epoch: 0.5,
            loss: 1.25,
            learning_rate: 1e-3,
            gradient_norm: 0.5,
            tokens: 100,
            tokens_per_second: 50.0,
            examples: 4,
            seconds: 2.0,
            data_wait: 0.1,
            mixer_weights: BTreeMap::from([("a".to_owned(), 1.0)]),
            validation_loss: None,
        }
    }

    #[test]
    fn a_damaged_line_is_reported_and_removed() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0, |_| ()).unwrap();
        (1..=3).for_each(|step| log.push(&metrics(step)).unwrap());
        let path = run.path().join("metrics.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"step\":2", "\"step\":1", 1)).unwrap();
        let mut warnings = Vec::new();
        drop(MetricsLog::open(run.path(), 3, |text| warnings.push(text.to_owned())).unwrap());
        assert!(
            matches!(&warnings[..], [one] if one.contains("metrics.jsonl, line 2")),
            "{warnings:?}"
        );
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn of_two_lines_of_one_step_the_first_stays() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0, |_| ()).unwrap();
        (1..=3).for_each(|step| log.push(&metrics(step)).unwrap());
        let path = run.path().join("metrics.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.repeat(2)).unwrap();
        let mut warnings = Vec::new();
        drop(MetricsLog::open(run.path(), 3, |text| warnings.push(text.to_owned())).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("line 4: step 1 "), "{warnings:?}");
    }

    #[test]
    fn lines_of_lost_steps_are_removed() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0, |warning| panic!("{warning}")).unwrap();
        (1..=4).for_each(|step| log.push(&metrics(step)).unwrap());
        let path = run.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 5);
        fs::write(&path, &text).unwrap();
        // The fourth line was cut, and the third is after the checkpoint.
        let mut log = MetricsLog::open(run.path(), 2, |warning| panic!("{warning}")).unwrap();
        log.push(&metrics(3)).unwrap();
        log.sync().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps = text
            .lines()
            .map(|line| serde_json::from_str::<StepMetrics>(line).unwrap());
        assert_eq!(
            steps.map(|metrics| metrics.step).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        // One file of each run; TensorBoard joins them.
        let events = fs::read_dir(run.path().join(EVENTS)).unwrap();
        assert_eq!(events.count(), 2);
    }
}
