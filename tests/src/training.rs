//! Runs of `merv-host train`, each in a temporary folder.

use super::{Run, Tiny, edit, fixture};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// The folder, stage and arguments of a run.
#[derive(Clone)]
pub struct TrainingRun {
    folder: Arc<TempDir>,
    stage: String,
    arguments: Vec<String>,
}

impl TrainingRun {
    /// A run of `stage` on the examples of `fixtures/training_runs`, with three examples per step.
    ///
    /// # Panics
    ///
    /// If the temporary folder cannot be created.
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

    /// Sets a key of the settings.
    #[must_use]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        self.arg("--set")
            .arg(format!("{key}={}", value.to_string()))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The folder of the run.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// `merv-host train` into the folder of the run.
    pub fn run(&self) -> Run {
        self.into_folder(&self.out())
    }

    /// The same into the folder `out`.
    pub fn into_folder(&self, out: &Path) -> Run {
        Run::new()
            .keeping(&self.folder)
            .args(["--threads", "2", "train", "--config"])
            .arg(fixture("training_runs/settings.toml"))
            .args(["--stage", &self.stage, "--out"])
            .arg(out)
            .args(&self.arguments)
    }

    /// `merv-host train --resume` on the folder, without repeating the arguments.
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
    /// If the file cannot be read.
    #[track_caller]
    pub fn metrics(&self) -> Vec<Value> {
        let path = self.out().join("metrics.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("lines are JSON")
    }

    /// The value of `key` in every line of `metrics.jsonl`.
    #[track_caller]
    pub fn curve(&self, key: &str) -> Vec<f64> {
        let lines = self.metrics();
        let values = lines.iter().map(|line| line[key].as_f64());
        values
            .collect::<Option<_>>()
            .expect("every line has the key")
    }

    /// The steps of the checkpoints, in ascending order.
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

    /// The folder of the checkpoint of `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.out().join(format!("checkpoints/step-{step:08}"))
    }

    /// The digests of the weights and the optimiser state in the checkpoint of `step`.
    ///
    /// # Panics
    ///
    /// If there is no such checkpoint.
    #[track_caller]
    pub fn digests(&self, step: u64) -> Value {
        let path = self.checkpoint(step).join("state.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let state: Value = serde_json::from_str(&text).expect("state.json is JSON");
        state["parts"].clone()
    }
}

/// A copy of the lively model with SigLIP as its only encoder, which makes it faster.
///
/// # Panics
///
/// If the files cannot be written.
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
    let text = fs::read_to_string(tiny.registry()).expect("the registry can be read");
    let mut tables = text.split("[[encoders]]");
    let head = tables.next().unwrap_or_default().to_owned();
    let siglip = tables.last().unwrap_or_default();
    fs::write(tiny.registry(), format!("{head}[[encoders]]{siglip}"))
        .expect("the registry can be written");
    tiny
}
