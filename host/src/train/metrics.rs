//! `metrics.jsonl`: a line a step, for people, plots and trackers; and the same as events for TensorBoard.

use super::{
    TrainError,
    run_folder::{EVENTS, METRICS},
};
use crate::{
    disk::{
        journal::{self, Journal},
        sealed::Mismatch,
        whole_file,
    },
    train::tensorboard::EventWriter,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What happened in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Steps that were done with this one.
    pub step: u64,
    /// Epochs that were done.
    pub epoch: f64,
    /// The mean over the labels of the step.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// The length of the gradient over all trained parts, before clipping.
    pub gradient_norm: f64,
    /// Positions that the language model saw, visual tokens too.
    pub tokens: u64,
    /// Those a second.
    pub tokens_per_second: f64,
    /// Examples of the step, without broken ones.
    pub examples: u64,
    /// How long it took.
    pub seconds: f64,
    /// How much of that was spent waiting for examples to be read.
    pub data_wait: f64,
    /// How much each encoder counted on average, where the fusion weighs them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mixer_weights: BTreeMap<String, f64>,
    /// The loss on the held-out examples, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
}

impl StepMetrics {
    /// What TensorBoard draws curves of, by their tags.
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

/// The file, open at its end, and the events beside it.
pub(super) struct MetricsLog {
    path: PathBuf,
    journal: Journal,
    events: EventWriter,
}

impl MetricsLog {
    /// Opens the file of a run that has done `step` steps: lines of later steps, of which no checkpoint
    /// knows, are taken out, and so is one that a kill has cut. `warn` hears of lines that are not what was
    /// written, which are taken out too.
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
                "{}, line {number}: {Mismatch}; it is left out",
                path.display()
            ));
        }
        let known = |line: &&(usize, String)| {
            let metrics = serde_json::from_str::<StepMetrics>(&line.1);
            metrics.is_ok_and(|metrics| metrics.step <= step)
        };
        let kept = lines.sound.iter().filter(known);
        let kept: Vec<&str> = kept.map(|(_, line)| line.as_str()).collect();
        let gone = step.saturating_sub((kept.len() + lines.damaged.len()) as u64);
        if gone > 0 {
            warn(&format!(
                "{}: {gone} of the {step} steps that were done have no line: they are missing from the curves, and \
                 nothing else of them is lost",
                path.display()
            ));
        }
        let kept: String = kept.iter().map(|line| format!("{line}\n")).collect();
        // A new file, whatever was there: what is open elsewhere is not changed.
        whole_file::write(&path, kept.as_bytes()).map_err(failed)?;
        let journal = Journal::open(&path).map_err(failed)?;
        let events = EventWriter::create(&run.join(EVENTS)).map_err(failed)?;
        Ok(Self {
            path,
            journal,
            events,
        })
    }

    /// Adds a line.
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

    /// Has all lines on the disk.
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
    fn a_damaged_line_is_told_and_goes() {
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
    fn lines_of_steps_that_were_lost_go() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0, |warning| panic!("{warning}")).unwrap();
        (1..=4).for_each(|step| log.push(&metrics(step)).unwrap());
        let path = run.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 5);
        fs::write(&path, &text).unwrap();
        // The fourth was cut, the third came after the checkpoint.
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
        // One of each run, which TensorBoard joins.
        let events = fs::read_dir(run.path().join(EVENTS)).unwrap();
        assert_eq!(events.count(), 2);
    }
}
