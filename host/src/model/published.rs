//! Comparing a registry with the `config.json` that is published with a MERV checkpoint. MERV's own loader
//! reads the settings of the model from it. A registry with other settings would give other answers, so it is
//! refused.

use crate::{
    Error, Observer,
    model::files::Files,
    registry::{
        FusionKind, Problem, Problems, ProjectorKind, Registry, RegistryError, WeightSource,
    },
};
use serde_json::Value;
use std::{fs, path::Path};

/// The folder of the checkpoints. The config is next to it.
const CHECKPOINTS: &str = "checkpoints";

/// The name of the config.
const CONFIG: &str = "config.json";

/// The maximum size of a config in bytes. It is a page of text.
const MAX_BYTES: u64 = 1 << 20;

/// Returns the source of the config for the registry's checkpoint: `{id}/config.json` for
/// `{id}/checkpoints/latest-checkpoint.pt`.
fn config_of(registry: &Registry) -> Option<WeightSource> {
    if !registry.mixer.check_config {
        return None;
    }
    match registry.mixer.weights.trained()? {
        WeightSource::Hub {
            repo,
            file,
            revision,
            ..
        } => {
            let (folder, _) = file.rsplit_once('/')?;
            let parent = folder.strip_suffix(CHECKPOINTS)?;
            let whole = parent.is_empty() || parent.ends_with('/');
            whole.then(|| WeightSource::Hub {
                repo: repo.clone(),
                file: format!("{parent}{CONFIG}"),
                alternatives: Vec::new(),
                revision: revision.clone(),
                sha256: None,
            })
        }
        WeightSource::Local { path, .. } => {
            let folder = path
                .parent()
                .filter(|folder| folder.ends_with(CHECKPOINTS))?;
            Some(WeightSource::Local {
                path: folder.with_file_name(CONFIG),
                sha256: None,
            })
        }
        WeightSource::Checkpoint => None,
    }
}

/// Downloads the config if the checkpoint has to be downloaded too, and compares it.
///
/// # Errors
///
/// The same as [`check`]. Also returns an error if the download fails.
pub(crate) fn fetch(
    registry: &Registry,
    files: &Files,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    if let Some(config) = config_of(registry)
        && let Some(weights) = registry.mixer.weights.trained()
        && files.present(weights)?.is_none()
    {
        files.fetch_small(&config, MAX_BYTES, observer)?;
    }
    check(registry, files)
}

/// Compares the registry with the config, if the config is on this machine.
///
/// # Errors
///
/// Returns all differences, with both values and what to change.
pub(crate) fn check(registry: &Registry, files: &Files) -> Result<(), Error> {
    let Some(config) = config_of(registry) else {
        return Ok(());
    };
    let Some(path) = files
        .present(&config)?
        .and_then(|paths| paths.into_iter().next())
    else {
        return Ok(());
    };
    let problems = match read(&path) {
        Ok(model) => Comparison {
            registry,
            config: &config,
            model: &model,
            problems: Vec::new(),
        }
        .run(),
        Err(why) => vec![
            Problem::new(None, format!("{config} cannot be compared: {why}"))
                .expected("MERV's config of the checkpoint")
                .hint("download it again, or write `check_config = false` in [mixer]"),
        ],
    };
    if problems.is_empty() {
        return Ok(());
    }
    Err(RegistryError::from(Problems::new(&registry.path, problems)).into())
}

/// Reads the settings of the model in a config. The value is null if it is the config of something else.
fn read(path: &Path) -> Result<Value, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!(
            "it has {size} bytes, but a config has a few thousand"
        ));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(config["model"].take())
}

struct Comparison<'c> {
    registry: &'c Registry,
    config: &'c WeightSource,
    model: &'c Value,
    problems: Vec<Problem>,
}

impl Comparison<'_> {
    fn run(mut self) -> Vec<Problem> {
        if !self.model["video_backbone_ids"].is_array() {
            return Vec::new();
        }
        let registry = self.registry;
        self.encoders();
        let resize = registry.transform.resize;
        self.named(
            "resize",
            "transform",
            "image_resize_strategy",
            resize.name(),
            |text| text.parse() == Ok(resize),
        );
        let kind = registry.mixer.kind;
        let projector = kind.projector;
        self.named(
            "projector",
            "mixer",
            "arch_specifier",
            &projector.to_string(),
            |text| {
                let aligned = |kind: ProjectorKind| ProjectorKind {
                    no_align: true,
                    ..kind
                };
                text.parse()
                    .is_ok_and(|found| aligned(found) == aligned(projector))
            },
        );
        self.named(
            "fusion",
            "mixer",
            "feature_fusion",
            &kind.fusion.to_string(),
            |text| text.parse::<FusionKind>() == Ok(kind.fusion),
        );
        let length = kind.visual_feature_length;
        self.number(
            "token_length",
            "mixer",
            "projector_token_length",
            kind.token_length,
        );
        self.number(
            "visual_feature_length",
            "mixer",
            "visual_feature_length",
            length,
        );
        self.number(
            "max_length",
            "llm",
            "llm_max_length",
            registry.llm.max_length,
        );
        self.problems
    }

    /// Compares the id and the number of frames of each encoder.
    fn encoders(&mut self) {
        let registry = self.registry;
        let ids: Vec<&str> = texts(&self.model["video_backbone_ids"]);
        if ids.len() != registry.encoders.len() {
            let found = registry.encoders.iter().map(|entry| entry.id.as_str());
            let found = found.collect::<Vec<_>>().join(", ");
            self.differs(
                None,
                "encoders",
                "[[encoders]]",
                "video_backbone_ids",
                (&ids.join(", "), &found),
            );
            return;
        }
        for (index, (entry, id)) in registry.encoders.iter().zip(ids).enumerate() {
            let table = entry.lines.name.as_str();
            if entry.id != id {
                let line = Some(entry.lines.of("id"));
                self.differs(line, "id", table, "video_backbone_ids", (id, &entry.id));
            }
            let frames = &self.model["num_frames"];
            let frames = frames.as_u64().or_else(|| frames[index].as_u64());
            if let Some(frames) = frames.filter(|&frames| frames != entry.num_frames as u64) {
                let line = Some(entry.lines.of("num_frames"));
                let values = (frames.to_string(), entry.num_frames.to_string());
                self.differs(
                    line,
                    "num_frames",
                    table,
                    "num_frames",
                    (&values.0, &values.1),
                );
            }
        }
    }

    fn named(
        &mut self,
        key: &str,
        table: &str,
        theirs: &str,
        ours: &str,
        same: impl FnOnce(&str) -> bool,
    ) {
        let model = self.model;
        if let Some(text) = model[theirs].as_str().filter(|text| !same(text)) {
            self.differs(
                None,
                key,
                &format!("[{table}]"),
                theirs,
                (&format!("{text:?}"), &format!("{ours:?}")),
            );
        }
    }

    fn number(&mut self, key: &str, table: &str, theirs: &str, ours: usize) {
        let number = self.model[theirs].as_u64();
        if let Some(number) = number.filter(|&number| number != ours as u64) {
            let values = (number.to_string(), ours.to_string());
            self.differs(
                None,
                key,
                &format!("[{table}]"),
                theirs,
                (&values.0, &values.1),
            );
        }
    }

    fn differs(
        &mut self,
        line: Option<usize>,
        key: &str,
        table: &str,
        theirs: &str,
        (expected, found): (&str, &str),
    ) {
        let config = self.config;
        let problem = Problem::new(
            line,
            format!("`{key}` in {table} differs from the training of the checkpoint"),
        );
        self.problems.push(
            problem
                .expected(format!("{expected}, the value of `{theirs}` in {config}"))
                .found(found)
                .hint(format!(
                    "write {expected} as `{key}`; if the difference is intended, write \
                     `check_config = false` in [mixer]"
                )),
        );
    }
}

/// Returns the strings of a list.
fn texts(list: &Value) -> Vec<&str> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap_or_default())
        .collect()
}
