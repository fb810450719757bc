//! Runs of `merv-host train` in folders of their own.

use super::{Run, Tiny, edit, fixture};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A run's folder, and what is trained into it.
#[derive(Clone)]
pub struct TrainingRun {
    folder: Arc<TempDir>,
    stage: String,
    arguments: Vec<String>,
}

impl TrainingRun {
    /// A stage on the examples of `fixtures/training_runs`, three of them a step.
    ///
    /// # Panics
    ///
    /// When the disk is full.
    pub fn new(stage: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let run = Self {
            folder: Arc::new(folder),
            stage: stage.to_owned(),
            arguments: Vec::new(),
        };
        run.set("global_batch", 3)
            .set("device_batch", 3)
            .set("save_every", 1000)
    }

    /// Sets a key.
    #[must_use]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        self.arg("--set")
            .arg(format!("{key}={}", value.to_string()))
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The run's folder.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// `merv-host train`, to be finished.
    pub fn run(&self) -> Run {
        self.into_folder(&self.out())
    }

    /// The same into another folder.
    pub fn into_folder(&self, out: &Path) -> Run {
        Run::new()
            .keeping(&self.folder)
            .args(["--threads", "2", "train", "--config"])
            .arg(fixture("training_runs/settings.toml"))
            .args(["--stage", &self.stage, "--out"])
            .arg(out)
            .args(&self.arguments)
    }

    /// `merv-host train --resume` of the folder, with nothing said again.
    pub fn resumed(&self) -> Run {
        Run::new()
            .keeping(&self.folder)
            .args(["--threads", "2", "train", "--resume", "--out"])
            .arg(self.out())
    }

    /// The lines of `metrics.jsonl`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn metrics(&self) -> Vec<Value> {
        let path = self.out().join("metrics.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("lines are JSON")
    }

    /// A number of every line of `metrics.jsonl`.
    #[track_caller]
    pub fn curve(&self, key: &str) -> Vec<f64> {
        let lines = self.metrics();
        let values = lines.iter().map(|line| line[key].as_f64());
        values.collect::<Option<_>>().expect("every line has it")
    }

    /// The steps of the checkpoints, rising.
    pub fn checkpoints(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.out().join("checkpoints")) else {
            return Vec::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let steps = names.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse().ok());
        let mut steps: Vec<u64> = steps.collect();
        steps.sort_unstable();
        steps
    }

    /// The folder of a step's checkpoint.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.out().join(format!("checkpoints/step-{step:08}"))
    }

    /// What a step's checkpoint says of its parts: the digests of weights and optimizer.
    ///
    /// # Panics
    ///
    /// When there is no such checkpoint.
    #[track_caller]
    pub fn digests(&self, step: u64) -> Value {
        let path = self.checkpoint(step).join("state.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let state: Value = serde_json::from_str(&text).expect("it is JSON");
        state["parts"].clone()
    }
}

/// The lively model with SigLIP alone, which is quickly encoded.
///
/// # Panics
///
/// When the disk is full.
pub fn tiny_with_one_encoder() -> Tiny {
    let tiny = Tiny::new();
    edit(&tiny.path("mixer.safetensors"), |tensors| {
        let all = std::mem::take(tensors);
        for (name, tensor) in all {
            if let Some(rest) = name.strip_prefix("projectors.3.") {
                tensors.insert(format!("projectors.0.{rest}"), tensor);
            } else if !name.starts_with("projectors.") {
                tensors.insert(name, tensor);
            }
        }
    });
    let text = fs::read_to_string(tiny.registry()).expect("the copy is there");
    let mut tables = text.split("[[encoders]]");
    let head = tables.next().unwrap_or_default().to_owned();
    let siglip = tables.last().unwrap_or_default();
    fs::write(tiny.registry(), format!("{head}[[encoders]]{siglip}")).expect("it can be written");
    tiny
}
