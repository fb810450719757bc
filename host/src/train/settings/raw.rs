//! Reads a settings file: its tables and keys, and the types of their values.

use super::SettingsError;
use crate::{
    messages::quoted,
    registry::DtypeChoice,
    settings_file::{
        Problem, Problems,
        document::{self, About, Lines, Refusal},
        table::{At, Reader, Shape, Table},
    },
    train::TrainingStage,
};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The version of the format that this program reads.
const SCHEMA_VERSION: usize = 1;

/// The keys of a stage. Each may also be at the top level, for all stages.
const KEYS: [&str; 26] = [
    "id",
    "description",
    "registry",
    "data",
    "media",
    "validation",
    "epochs",
    "max_steps",
    "global_batch",
    "device_batch",
    "learning_rate",
    "weight_decay",
    "warmup_ratio",
    "max_grad_norm",
    "max_length",
    "group_by_length",
    "precision",
    "gradient_checkpointing",
    "seed",
    "max_bad_fraction",
    "workers",
    "prefetch",
    "save_every",
    "keep",
    "validate_every",
    "feature_cache",
];

const TOP_OPTIONAL: [&str; KEYS.len() + TrainingStage::ALL.len()] = {
    let mut all = [""; KEYS.len() + TrainingStage::ALL.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < KEYS.len() {
            KEYS[at]
        } else {
            TrainingStage::ALL[at - KEYS.len()].name()
        };
        at += 1;
    }
    all
};

const TOP: Shape = Shape {
    name: "the top level",
    required: &["schema"],
    optional: &TOP_OPTIONAL,
};

const fn stage_shape(stage: TrainingStage) -> Shape {
    Shape {
        name: match stage {
            TrainingStage::Align => "[align]",
            TrainingStage::FullAlign => "[full-align]",
            TrainingStage::Finetune => "[finetune]",
            TrainingStage::SecondFinetune => "[second_finetune]",
            TrainingStage::FullFinetune => "[full-finetune]",
        },
        required: &[],
        optional: &KEYS,
    }
}

const SET: Shape = Shape {
    name: "--set",
    required: &[],
    optional: &KEYS,
};

const ABOUT: About = About {
    name: "settings",
    example: "configs/merv-tiny.toml",
};

/// Far above what any run needs, and small enough that the product of two does not overflow.
const MAX_COUNT: usize = u32::MAX as usize;

/// As many as `--threads` accepts.
const MAX_WORKERS: usize = 4096;

const MANUAL: &str = "configs/README.md";

/// The values of one table. Keys that are missing or were refused are `None`.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) id: Option<String>,
    pub(super) description: Option<String>,
    /// A file, or a NAME if the value does not look like a path.
    pub(super) registry: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
    pub(super) media: Option<PathBuf>,
    pub(super) validation: Option<PathBuf>,
    pub(super) feature_cache: Option<PathBuf>,
    pub(super) epochs: Option<usize>,
    pub(super) max_steps: Option<usize>,
    pub(super) global_batch: Option<usize>,
    pub(super) device_batch: Option<usize>,
    pub(super) learning_rate: Option<f64>,
    pub(super) weight_decay: Option<f64>,
    pub(super) warmup_ratio: Option<f64>,
    pub(super) max_grad_norm: Option<f64>,
    pub(super) max_length: Option<usize>,
    pub(super) group_by_length: Option<bool>,
    pub(super) precision: Option<DtypeChoice>,
    pub(super) gradient_checkpointing: Option<bool>,
    pub(super) seed: Option<usize>,
    pub(super) max_bad_fraction: Option<f64>,
    pub(super) workers: Option<usize>,
    pub(super) prefetch: Option<usize>,
    pub(super) save_every: Option<usize>,
    pub(super) keep: Option<usize>,
    pub(super) validate_every: Option<usize>,
}

impl Values {
    /// Returns these values, and those of `other` for keys without a value.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            id: self.id.or(other.id),
            description: self.description.or(other.description),
            registry: self.registry.or(other.registry),
            data: self.data.or(other.data),
            media: self.media.or(other.media),
            validation: self.validation.or(other.validation),
            feature_cache: self.feature_cache.or(other.feature_cache),
            epochs: self.epochs.or(other.epochs),
            max_steps: self.max_steps.or(other.max_steps),
            global_batch: self.global_batch.or(other.global_batch),
            device_batch: self.device_batch.or(other.device_batch),
            learning_rate: self.learning_rate.or(other.learning_rate),
            weight_decay: self.weight_decay.or(other.weight_decay),
            warmup_ratio: self.warmup_ratio.or(other.warmup_ratio),
            max_grad_norm: self.max_grad_norm.or(other.max_grad_norm),
            max_length: self.max_length.or(other.max_length),
            group_by_length: self.group_by_length.or(other.group_by_length),
            precision: self.precision.or(other.precision),
            gradient_checkpointing: self.gradient_checkpointing.or(other.gradient_checkpointing),
            seed: self.seed.or(other.seed),
            max_bad_fraction: self.max_bad_fraction.or(other.max_bad_fraction),
            workers: self.workers.or(other.workers),
            prefetch: self.prefetch.or(other.prefetch),
            save_every: self.save_every.or(other.save_every),
            keep: self.keep.or(other.keep),
            validate_every: self.validate_every.or(other.validate_every),
        }
    }

    /// Reads the values of a table. Paths are relative to `folder`.
    fn read(table: &Table<'_>, folder: &Path, reader: &mut Reader<'_>) -> Self {
        fn value<T>(at: Option<At<T>>) -> Option<T> {
            at.map(|at| at.value)
        }
        let mut path = |key: &str| {
            let text = value(table.text(key, reader))?;
            Some(folder.join(text))
        };
        let (data, media) = (path("data"), path("media"));
        let (validation, feature_cache) = (path("validation"), path("feature_cache"));
        let registry = value(table.text("registry", reader)).map(|text| {
            if text.ends_with(".toml") || text.contains(std::path::is_separator) {
                folder.join(text)
            } else {
                PathBuf::from(text)
            }
        });
        let id = value(table.text("id", reader));
        let description = value(table.any_text("description", reader));
        let workers = value(table.whole("workers", 1..=MAX_WORKERS, reader));
        let mut whole = |key, least| value(table.whole(key, least..=MAX_COUNT, reader));
        Self {
            id,
            description,
            registry,
            data,
            media,
            validation,
            feature_cache,
            epochs: whole("epochs", 1),
            max_steps: whole("max_steps", 1),
            global_batch: whole("global_batch", 1),
            device_batch: whole("device_batch", 1),
            max_length: whole("max_length", 2),
            seed: whole("seed", 0),
            workers,
            prefetch: whole("prefetch", 1),
            save_every: whole("save_every", 1),
            keep: whole("keep", 1),
            validate_every: whole("validate_every", 1),
            learning_rate: value(table.number("learning_rate", 0.0..=1e3, reader)),
            weight_decay: value(table.number("weight_decay", 0.0..=1e3, reader)),
            warmup_ratio: value(table.number("warmup_ratio", 0.0..=1.0, reader)),
            max_grad_norm: value(table.number("max_grad_norm", 0.0..=1e9, reader)),
            max_bad_fraction: value(table.number("max_bad_fraction", 0.0..=1.0, reader)),
            precision: precision(table, reader),
            group_by_length: value(table.flag("group_by_length", reader)),
            gradient_checkpointing: value(table.flag("gradient_checkpointing", reader)),
        }
    }
}

fn precision(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<DtypeChoice> {
    let text = table.text("precision", reader)?;
    match text.value.parse() {
        Ok(dtype) => Some(dtype),
        Err(known) => {
            let problem = table.refuse("precision", text.line, "is not a known number format");
            let problem = problem.expected("`auto`, `f32`, `bf16` or `f16`");
            reader
                .problems
                .push(problem.found(quoted(&text.value)).hint(known));
            None
        }
    }
}

/// Reads the values that a settings file has for a stage.
pub(super) fn read(path: &Path, stage: TrainingStage) -> Result<Values, SettingsError> {
    let text = document::read(path, &ABOUT).map_err(|refusal| match refusal {
        Refusal::Read(source) => SettingsError::Read {
            path: path.to_owned(),
            source,
        },
        Refusal::Content(problem) => SettingsError::Invalid(Problems::new(path, vec![*problem])),
    })?;
    let lines = Lines::new(&text);
    let invalid = |list| SettingsError::Invalid(Problems::new(path, list));
    let document = document::parse(&text, &lines).map_err(invalid)?;
    let mut reader = Reader {
        lines: &lines,
        shapes: &[],
        manual: MANUAL,
        problems: Vec::new(),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let top = Table::open(&document, TOP.name.to_owned(), 1, &TOP, &mut reader);
    if let Some(schema) = top.count("schema", usize::MAX, &mut reader)
        && schema.value != SCHEMA_VERSION
    {
        let why = "is a version that this program cannot read";
        let problem = top.refuse("schema", schema.line, why);
        return Err(invalid(vec![
            problem
                .expected(format!("`schema = {SCHEMA_VERSION}`"))
                .found(quoted(&schema.value.to_string()))
                .hint("use settings of the expected version, or a merv-host that reads this one"),
        ]));
    }
    let common = Values::read(&top, folder, &mut reader);
    let mut own = Values::default();
    // All stages are read, so that mistakes in later stages are found early.
    for other in TrainingStage::ALL {
        let Some(table) = top.table(other.name(), &stage_shape(other), &mut reader) else {
            continue;
        };
        let values = Values::read(&table, folder, &mut reader);
        if other == stage {
            own = values;
        }
    }
    if reader.problems.is_empty() {
        Ok(own.or(common))
    } else {
        Err(invalid(reader.problems))
    }
}

/// Parses `--set key=value`. A value that is not valid TOML is a string.
pub(super) fn set(argument: &str) -> Result<Values, SettingsError> {
    let refused = |mut problem: Problem| {
        // An argument does not have line numbers.
        problem.line = None;
        let path = PathBuf::from(format!("--set {argument}"));
        SettingsError::Invalid(Problems::new(&path, vec![problem]))
    };
    let Some((key, value)) = argument.split_once('=') else {
        let problem = Problem::new(None, "`=` is missing")
            .expected("a key, `=` and a value: `--set learning_rate=1e-4`")
            .found(quoted(argument))
            .hint("write the key, `=` and the value, without blanks");
        return Err(refused(problem));
    };
    let (key, value) = (key.trim(), value.trim());
    if !KEYS.contains(&key) {
        let near = merv_architectures::nearest::nearest(key, &KEYS);
        let problem = Problem::new(None, format!("unknown key {}", quoted(key)))
            .expected(format!("one of {}", KEYS.join(", ")))
            .found(quoted(key))
            .hint(near.map_or("remove it".to_owned(), |near| format!("write `{near}`")));
        return Err(refused(problem));
    }
    let quoted = serde_json::Value::from(value);
    let as_text = format!("{key} = {quoted}");
    let as_value = format!("{key} = {value}");
    let text = if DeTable::parse(&as_value).is_ok() {
        as_value
    } else {
        as_text
    };
    let lines = Lines::new(&text);
    let document =
        document::parse(&text, &lines).map_err(|mut problems| refused(problems.remove(0)))?;
    let mut reader = Reader {
        lines: &lines,
        shapes: &[],
        manual: MANUAL,
        problems: Vec::new(),
    };
    let table = Table::open(&document, SET.name.to_owned(), 1, &SET, &mut reader);
    let values = Values::read(&table, Path::new(""), &mut reader);
    match reader.problems.pop() {
        Some(problem) => Err(refused(problem)),
        None => Ok(values),
    }
}
