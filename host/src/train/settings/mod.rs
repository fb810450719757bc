//! The settings of a run: a TOML file with values for all stages and a table for each stage, overridden by `--set`.
//! `raw` reads the values; this module fills in the defaults.

mod error;
mod raw;
#[cfg(test)]
mod tests;

use super::TrainingStage;
use crate::{
    LoadOptions,
    disk::whole_file::folder_of,
    registry::{DEFAULT_REGISTRY, DtypeChoice, SearchPath, find},
    threads,
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf, absolute},
};

pub use error::SettingsError;

/// The complete settings of one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The stage.
    pub stage: TrainingStage,
    /// The id of the trained model; by default the name of the run's folder.
    pub id: Option<String>,
    /// The description of the trained model; by default its base model, steps and stage.
    pub description: Option<String>,
    /// The model to start from: a registry FILE, or the NAME of one.
    pub registry: PathBuf,
    /// The examples.
    pub data: PathBuf,
    /// The folder that the examples' paths are relative to.
    pub media: PathBuf,
    /// The held-out examples.
    pub validation: Option<PathBuf>,
    /// The folder for the features of encoders that are not trained.
    pub feature_cache: Option<PathBuf>,
    /// How often each example is seen.
    pub epochs: usize,
    /// Maximum number of steps. The learning-rate schedule also ends there.
    pub max_steps: Option<usize>,
    /// The number of examples in a step.
    pub global_batch: usize,
    /// The number of examples that are computed together.
    pub device_batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The weight decay of matrices.
    pub weight_decay: f64,
    /// The fraction of the steps in which the learning rate rises.
    pub warmup_ratio: f64,
    /// Gradients with a larger norm are scaled down to this norm; 0 turns this off.
    pub max_grad_norm: f64,
    /// Maximum number of text tokens of an example; by default the registry's.
    pub max_length: Option<usize>,
    /// Whether a batch has examples of similar length.
    pub group_by_length: bool,
    /// The number format of matrix products; by default the registry's.
    pub precision: Option<DtypeChoice>,
    /// Whether activations are computed again in the backward pass instead of being kept.
    pub gradient_checkpointing: bool,
    /// Determines the order of the examples.
    pub seed: u64,
    /// The fraction of the examples that may be broken before the run stops.
    pub max_bad_fraction: f64,
    /// The number of threads that read examples.
    pub workers: usize,
    /// The number of device batches that are read ahead.
    pub prefetch: usize,
    /// The number of steps between checkpoints.
    pub save_every: usize,
    /// The number of checkpoints that are kept, in addition to the best.
    pub keep: usize,
    /// The number of steps between validations.
    pub validate_every: usize,
}

impl Settings {
    /// Reads the values of a stage from a file, overridden by `--set key=value`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, something in it or in `sets` is wrong, or a key without a default is missing.
    pub fn load(path: &Path, stage: TrainingStage, sets: &[String]) -> Result<Self, SettingsError> {
        Self::load_over(path, None, stage, sets)
    }

    /// Checks one argument of `--set`.
    ///
    /// # Errors
    ///
    /// When it does not have the form `key=value`, or the key or the value is wrong.
    pub fn check_argument(argument: &str) -> Result<(), SettingsError> {
        raw::set(argument).map(drop)
    }

    /// Reads the values of a stage from the file `record`, overridden by the file `given`, and both overridden by
    /// `--set key=value`.
    pub(super) fn load_over(
        record: &Path,
        given: Option<&Path>,
        stage: TrainingStage,
        sets: &[String],
    ) -> Result<Self, SettingsError> {
        let mut values = raw::read(record, stage)?;
        if let Some(given) = given {
            values = raw::read(given, stage)?.or(values);
        }
        for argument in sets {
            values = raw::set(argument)?.or(values);
        }
        Self::complete(values, record, stage)
    }

    /// Fills in the defaults.
    fn complete(
        values: raw::Values,
        path: &Path,
        stage: TrainingStage,
    ) -> Result<Self, SettingsError> {
        let missing = |key, what| SettingsError::Missing {
            path: path.to_owned(),
            stage,
            key,
            what,
        };
        let data = values
            .data
            .ok_or_else(|| missing("data", "a JSON file of examples"))?;
        let media = values
            .media
            .or_else(|| data.parent().map(Path::to_owned))
            .unwrap_or_default();
        let global_batch = values.global_batch.unwrap_or(match stage.trains_llm() {
            false => 256,
            true => 128,
        });
        let device_batch = values.device_batch.unwrap_or(match stage.trains_llm() {
            false => 16,
            true => 8,
        });
        let save_every = values.save_every.unwrap_or(512);
        Ok(Self {
            stage,
            id: values.id,
            description: values.description,
            registry: values
                .registry
                .unwrap_or_else(|| PathBuf::from(DEFAULT_REGISTRY)),
            data,
            media,
            validation: values.validation,
            feature_cache: values.feature_cache,
            epochs: values.epochs.unwrap_or(1),
            max_steps: values.max_steps,
            global_batch,
            device_batch: device_batch.min(global_batch),
            learning_rate: values.learning_rate.unwrap_or(match stage.trains_llm() {
                false => 1e-3,
                true => 2e-5,
            }),
            weight_decay: values.weight_decay.unwrap_or(match stage.trains_llm() {
                false => 0.0,
                true => 0.1,
            }),
            warmup_ratio: values.warmup_ratio.unwrap_or(0.03),
            max_grad_norm: values.max_grad_norm.unwrap_or(1.0),
            max_length: values.max_length,
            group_by_length: values.group_by_length.unwrap_or(stage.groups_by_length()),
            precision: values.precision,
            gradient_checkpointing: values.gradient_checkpointing.unwrap_or(true),
            seed: values.seed.unwrap_or(7) as u64,
            max_bad_fraction: values.max_bad_fraction.unwrap_or(0.01),
            workers: values.workers.unwrap_or(2),
            prefetch: values.prefetch.unwrap_or(4),
            save_every,
            keep: values.keep.unwrap_or(3),
            validate_every: values.validate_every.unwrap_or(save_every),
        })
    }

    /// The threads that read examples: no more than there are examples to read ahead, and no more than are useful
    /// on this machine.
    pub(super) fn readers(&self) -> usize {
        let ahead = self.prefetch.saturating_mul(self.device_batch);
        threads::useful(self.workers.min(ahead))
    }

    /// Returns `options` with the settings' precision, if they have one.
    pub(super) fn with_precision(&self, options: &LoadOptions) -> LoadOptions {
        LoadOptions {
            precision: self.precision.or(options.precision),
            precision_option: match options.precision {
                None => self.precision.map(|_| "precision"),
                Some(_) => options.precision_option,
            },
            ..options.clone()
        }
    }

    /// Returns these settings with an `id`; by default it is the name of the folder `out`.
    pub(super) fn named_after(&self, out: &Path) -> Self {
        let mut named = self.clone();
        if named.id.is_none() {
            let name = rooted_path(out).file_name().map(OsStr::to_owned);
            named.id = name.map(|name| name.to_string_lossy().into_owned());
        }
        named
    }

    /// Returns the settings as a file, with absolute paths.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# The settings of this run, every default filled in.\nschema = 1\n\n[{}]\n",
            self.stage
        );
        for (key, value) in self.pairs() {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text
    }

    /// Returns the keys that differ and that a run cannot change after it has started, with both values.
    pub fn fixed_differences(&self, other: &Self) -> Vec<String> {
        if self.stage != other.stage {
            // Stages have different defaults, so other differences mean nothing.
            return vec![format!(
                "the stage: `{}`, now `{}`",
                self.stage, other.stage
            )];
        }
        let mut found = Vec::new();
        let (ours, theirs) = (self.pairs(), other.pairs());
        let value = |pairs: &[(&str, String)], key: &str| {
            let pair = pairs.iter().find(|(other, _)| *other == key);
            pair.map_or("nothing".to_owned(), |(_, value)| value.clone())
        };
        for (key, _) in ours.iter().chain(theirs.iter()) {
            let (ours, theirs) = (value(&ours, key), value(&theirs, key));
            let difference = format!("`{key}`: {ours}, now {theirs}");
            let same = ours == theirs
                || (*key == "registry" && is_same_registry(&self.registry, &other.registry));
            if !CHANGEABLE.contains(key) && !same && !found.contains(&difference) {
                found.push(difference);
            }
        }
        found
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        // TOML supports all escapes of JSON.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let text = |path: &Path| quoted(&path.to_string_lossy());
        let rooted = |path: &Path| text(&rooted_path(path));
        // A link to a file is not resolved, because media paths are relative to the link.
        let rooted_file = |path: &Path| match path.file_name() {
            Some(name) => text(&rooted_path(folder_of(path)).join(name)),
            None => rooted(path),
        };
        // A NAME stays a NAME.
        let registry = if self.registry.is_file() {
            rooted(&self.registry)
        } else {
            text(&self.registry)
        };
        // `{:?}` writes whole numbers with `.0`, and every number is parsed back to the same value.
        let number = |number: f64| format!("{number:?}");
        let pairs = [
            ("id", self.id.as_deref().map(quoted)),
            ("description", self.description.as_deref().map(quoted)),
            ("registry", Some(registry)),
            ("data", Some(rooted_file(&self.data))),
            ("media", Some(rooted(&self.media))),
            ("validation", self.validation.as_deref().map(rooted_file)),
            ("feature_cache", self.feature_cache.as_deref().map(rooted)),
            ("epochs", Some(self.epochs.to_string())),
            ("max_steps", self.max_steps.map(|n| n.to_string())),
            ("global_batch", Some(self.global_batch.to_string())),
            ("device_batch", Some(self.device_batch.to_string())),
            ("learning_rate", Some(number(self.learning_rate))),
            ("weight_decay", Some(number(self.weight_decay))),
            ("warmup_ratio", Some(number(self.warmup_ratio))),
            ("max_grad_norm", Some(number(self.max_grad_norm))),
            ("max_length", self.max_length.map(|n| n.to_string())),
            ("group_by_length", Some(self.group_by_length.to_string())),
            (
                "precision",
                self.precision.map(|dtype| format!("\"{dtype}\"")),
            ),
            (
                "gradient_checkpointing",
                Some(self.gradient_checkpointing.to_string()),
            ),
            ("seed", Some(self.seed.to_string())),
            ("max_bad_fraction", Some(number(self.max_bad_fraction))),
            ("workers", Some(self.workers.to_string())),
            ("prefetch", Some(self.prefetch.to_string())),
            ("save_every", Some(self.save_every.to_string())),
            ("keep", Some(self.keep.to_string())),
            ("validate_every", Some(self.validate_every.to_string())),
        ];
        let present = pairs.into_iter();
        present
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

/// Returns whether both lead to the same file: one may be its NAME, the other its path.
fn is_same_registry(a: &Path, b: &Path) -> bool {
    let search = SearchPath::from_env();
    let file = |registry: &Path| find(registry, &search).ok()?.canonicalize().ok();
    file(a).is_some_and(|a| file(b) == Some(a))
}

/// Returns the absolute path, with links resolved if it exists.
pub(super) fn rooted_path(path: &Path) -> PathBuf {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let rooted = path.canonicalize().or_else(|_| absolute(path));
    rooted.unwrap_or_else(|_| path.to_owned())
}

/// Keys that may change when a run is resumed: its length, the name of its model, and keys that do not change the
/// trained weights.
const CHANGEABLE: [&str; 12] = [
    "id",
    "description",
    "epochs",
    "max_steps",
    "feature_cache",
    "max_bad_fraction",
    "workers",
    "prefetch",
    "save_every",
    "keep",
    "validation",
    "validate_every",
];
