//! The settings that the answers of a run depend on, as named values. Predictions made with other settings are
//! not mixed with these, and the error lists the names that differ.

use super::{
    dataset::Dataset,
    options::{RunOptions, SECONDS},
};
use crate::{
    AnswerOptions,
    registry::{MixerWeights, PluginRef, PromptEntry, Registry, WeightSource},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// Returns all settings that answers depend on. Settings without a value are omitted.
pub(super) fn settings(
    options: &RunOptions,
    registry: &Registry,
    dataset: &Dataset,
) -> BTreeMap<String, Value> {
    let AnswerOptions { sampling, limits } = options.answers;
    let settings = [
        ("model", json!(registry.id)),
        ("data_sha256", json!(dataset.digest)),
        ("strategy", json!(options.strategy)),
        ("temperature", json!(sampling.temperature)),
        ("top_p", json!(sampling.top_p)),
        ("top_k", json!(sampling.top_k)),
        ("seed", json!(sampling.seed)),
        ("max_new_tokens", json!(limits.max_new_tokens)),
        ("min_length", json!(limits.min_length)),
        ("min_new_tokens", json!(limits.min_new_tokens)),
        ("folder_fps", json!(options.folder_fps)),
        ("seconds", json!(SECONDS.name())),
        (
            "features",
            json!(options.features.as_ref().map(|f| f.dtype().name())),
        ),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let all = settings.into_iter().chain(parts(registry));
    all.filter(|(_, value)| !value.is_null()).collect()
}

/// Returns the parts of a model. Two models can have the same id, for example a model and another one trained
/// from it. Devices are omitted because they may differ between chunks.
fn parts(registry: &Registry) -> Vec<(String, Value)> {
    let mut parts = Vec::new();
    let mut add = |part: &str, key: &str, value: Value| {
        parts.push((format!("{part} {key}"), value));
    };
    for (index, entry) in registry.encoders.iter().enumerate() {
        let part = format!("encoder {index}");
        add(&part, "id", json!(entry.id));
        add(&part, "plugin", json!(plugin(&entry.plugin)));
        add(&part, "num_frames", json!(entry.num_frames));
        add(&part, "weights", json!(entry.weights.as_ref().map(source)));
        add(&part, "config", json!(entry.config.as_ref().map(source)));
        add(&part, "image_size", json!(entry.image_size));
        add(&part, "dtype", json!(entry.dtype.to_string()));
        if !entry.options.is_empty() {
            add(&part, "options", json!(entry.options));
        }
    }
    let (llm, mixer) = (&registry.llm, &registry.mixer);
    let prompt = match &llm.prompt {
        PromptEntry::Format(format) => format.to_string(),
        PromptEntry::Template(file) => format!("the template of {}", source(file)),
    };
    add("llm", "id", json!(llm.id));
    add("llm", "plugin", json!(plugin(&llm.plugin)));
    add("llm", "weights", json!(source(&llm.weights)));
    add("llm", "tokenizer", json!(source(&llm.tokenizer)));
    add("llm", "config", json!(llm.config.as_ref().map(source)));
    add("llm", "prompt", json!(prompt));
    add("llm", "system_prompt", json!(llm.system_prompt));
    add("llm", "marks", json!(llm.marks.to_string()));
    if llm.split_special_tokens {
        add("llm", "split_special_tokens", json!(true));
    }
    add("llm", "max_length", json!(llm.max_length));
    add("llm", "dtype", json!(llm.dtype.to_string()));
    if !llm.options.is_empty() {
        add("llm", "options", json!(llm.options));
    }
    let kind = mixer.kind;
    add("mixer", "projector", json!(kind.projector.to_string()));
    add("mixer", "fusion", json!(mixer.fusion_name()));
    add("mixer", "token_length", json!(kind.token_length));
    let length = kind.visual_feature_length;
    add("mixer", "visual_feature_length", json!(length));
    let weights = match &mixer.weights {
        MixerWeights::Trained(weights) => source(weights),
        init => init.to_string(),
    };
    add("mixer", "weights", json!(weights));
    let resize = registry.transform.resize;
    add("transform", "resize", json!(resize.to_string()));
    parts
}

fn plugin(plugin: &PluginRef) -> String {
    match plugin {
        PluginRef::Any => "any".to_owned(),
        PluginRef::Name(name) => name.clone(),
        PluginRef::Library { path, .. } => whole(path),
    }
}

fn source(source: &WeightSource) -> String {
    match source {
        WeightSource::Local { path, .. } => whole(path),
        other => other.to_string(),
    }
}

fn whole(path: &Path) -> String {
    let whole = path.canonicalize();
    whole
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}
