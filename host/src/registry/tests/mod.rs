//! Mistakes in a registry and their messages.

mod documents;
mod fetching;
mod finding;
mod fit;
mod mistakes;
mod mixers;
mod names;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::prompt::PromptFormat;
use crate::transform::ResizeStrategy;
use merv_plugin_api::{Device, DeviceKind};

/// A registry without mistakes, the template of [`changed`]. The tests depend on its line numbers.
const GOOD: &str = r#"schema = 1
id = "good"
description = ""

[[encoders]]
id = "one"
plugin = "siglip"
num_frames = 16
weights = { path = "one.safetensors" }

[[encoders]]
id = "two"
plugin = { path = "libmerv_two.so" }
num_frames = 32
weights = { path = "two.safetensors" }
image_size = 224
device = "cuda:1"
dtype = "bf16"

[llm]
id = "llama"
plugin = "llama2"
weights = { path = "llm/model.safetensors" }
prompt = "pure"

[transform]
resize = "resize-naive"

[mixer]
projector = "no-align+3davg+linear"
fusion = "cross_attention_avg_lq"
token_length = 16
visual_feature_length = 256
weights = { path = "mixer.safetensors" }
"#;

const FILES: [&str; 6] = [
    "one.safetensors",
    "two.safetensors",
    "libmerv_two.so",
    "llm/model.safetensors",
    "llm/tokenizer.json",
    "mixer.safetensors",
];

fn folder_with(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "abc").unwrap();
    }
    folder
}

fn write(folder: &TempDir, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join("x.toml");
    fs::write(&path, bytes).unwrap();
    path
}

fn good() -> (TempDir, Registry) {
    let folder = folder_with(&FILES);
    let path = write(&folder, GOOD);
    let registry = Registry::from_file(&path).unwrap_or_else(|e| panic!("{e}"));
    (folder, registry)
}

/// Returns the message about `text` without the path of the folder.
fn message(text: impl AsRef<[u8]>) -> String {
    let folder = folder_with(&FILES);
    let path = write(&folder, text);
    let error = Registry::from_file(&path).expect_err("the mistake was not detected");
    error
        .to_string()
        .replace(&format!("{}/", folder.path().display()), "")
}

fn changed(from: &str, to: &str) -> String {
    assert!(
        GOOD.contains(from),
        "the template does not contain {from:?}"
    );
    GOOD.replacen(from, to, 1)
}

#[track_caller]
fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in:\n{message}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let (folder, registry) = good();
    let at = |name: &str| folder.path().join(name);
    let local = |name: &str| WeightSource::Local {
        path: at(name),
        sha256: None,
    };
    assert_eq!(registry.id, "good");
    assert_eq!(registry.largest_num_frames(), 32);
    let [one, two] = registry.encoders.as_slice() else {
        panic!("two encoders")
    };
    assert_eq!(one.plugin, PluginRef::Name("siglip".into()));
    assert_eq!(
        (one.device, one.dtype),
        (DeviceChoice::Auto, DtypeChoice::Auto)
    );
    assert_eq!((one.image_size, &one.config), (None, &None));
    assert_eq!(one.weights, Some(local("one.safetensors")));
    assert_eq!(
        two.plugin,
        PluginRef::Library {
            path: at("libmerv_two.so"),
            sha256: None
        }
    );
    assert_eq!(
        (two.device, two.dtype),
        (
            DeviceChoice::On(Device::new(DeviceKind::CUDA, 1)),
            DtypeChoice::Bf16
        )
    );
    assert_eq!(two.image_size, Some(224));
    assert_eq!(registry.llm.tokenizer, local("llm/tokenizer.json"));
    assert_eq!(registry.llm.max_length, 2048);
    assert_eq!(registry.llm.prompt, PromptEntry::Format(PromptFormat::Pure));
    assert_eq!(registry.transform.resize, ResizeStrategy::ResizeNaive);
    assert_eq!(registry.mixer.kind.token_side(), 4);
    assert!(registry.mixer.kind.projector.no_align);
}

#[test]
fn a_plugin_may_be_omitted_and_have_options() {
    let options =
        "[encoders.options]\nheads = \"3\"\nmode = \"\"\n\n[llm]\noptions = { kv = \"f8\" }";
    let text = changed("plugin = \"siglip\"\n", "").replace("[llm]", options);
    let folder = folder_with(&FILES);
    let registry = Registry::from_file(&write(&folder, text)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(registry.encoders[0].plugin, PluginRef::Any);
    assert!(registry.encoders[0].options.is_empty());
    let two = &registry.encoders[1];
    let pairs = |options: &BTreeMap<String, String>| -> Vec<String> {
        options
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    };
    assert_eq!(pairs(&two.options), ["heads=3", "mode="]);
    assert_eq!(
        [two.lines.of_option("heads"), two.lines.of_option("mode")],
        [20, 21]
    );
    assert_eq!(two.lines.of_option("unknown"), two.lines.table);
    assert_eq!(pairs(&registry.llm.options), ["kv=f8"]);
    assert_eq!(registry.llm.plugin, PluginRef::Name("llama2".into()));
}

#[test]
fn a_config_in_the_folder_of_the_weights_is_used() {
    let folder = folder_with(&FILES);
    fs::write(folder.path().join("llm/config.json"), "{}").unwrap();
    let registry = Registry::from_file(&write(&folder, GOOD)).unwrap();
    let path = folder.path().join("llm/config.json");
    assert_eq!(
        registry.llm.config,
        Some(WeightSource::Local { path, sha256: None })
    );
    assert_eq!(registry.encoders[0].config, None);
}
