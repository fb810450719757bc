//! The program with models on devices: what it copies, and what it refuses.

use super::{CLIP, FEATURES, LOGITS, NONE, ROW};
use crate::{LLAMA, SIGLIP};
use merv_tests::{Run, Tiny, plugin_folder, small_clip};
use serde_json::Value;
use std::path::Path;

/// The lively model with SigLIP and Llama on these devices of the pretend plugin.
fn replaced(plugins: &Path, encoder: &str, llm: &str) -> (Tiny, impl Fn(Run) -> Run) {
    let tiny = Tiny::new();
    for (old, new, device) in [
        (SIGLIP, "pretend-encoder", encoder),
        (LLAMA, "pretend-llm", llm),
    ] {
        let entry = format!("id = \"{new}\"\nplugin = \"pretend-device\"\ndevice = \"{device}\"");
        tiny.replace("registry.toml", old, &entry);
    }
    let plugins = plugins.to_owned();
    (tiny, move |run: Run| {
        run.arg("--plugin-dir").arg(&plugins).arg("--json")
    })
}

fn json(run: Run) -> Value {
    serde_json::from_str(&run.finish().succeeded().stdout).unwrap()
}

fn copied(report: &Value) -> [[u64; 2]; 3] {
    ["to_device", "to_main", "between_devices"].map(|direction| {
        ["count", "bytes"].map(|key| report["copies"][direction][key].as_u64().unwrap())
    })
}

/// Bytes of the lively model's clip for SigLIP and of its features: 16 frames.
const LIVELY_CLIP: u64 = 8 * CLIP;
const LIVELY_FEATURES: u64 = 8 * FEATURES;

#[test]
fn generate_copies_clips_features_embeddings_and_logits_once() {
    let plugins = plugin_folder(&["pretend-device"]);
    let ask = |encoder, llm| {
        let (tiny, with) = replaced(plugins.path(), encoder, llm);
        json(with(tiny.ask("What is this?", 5)))
    };
    let cpu = ask("cpu", "cpu");
    assert_eq!(copied(&cpu), [NONE, NONE, NONE]);
    let device = ask("ext:0", "ext:0");
    for key in ["text", "tokens", "mixer_weights", "prompt_tokens"] {
        assert_eq!(device[key], cpu[key], "{key}");
    }
    let tokens = device["tokens"].as_array().unwrap().len() as u64;
    assert_eq!(tokens, 5);
    // The start of the prompt, one token, is embedded on the device, and joined with the visual tokens in main memory.
    let prefix = 1 + device["visual_tokens"].as_u64().unwrap();
    let expected = [
        [2, LIVELY_CLIP + prefix * ROW],
        [2 + tokens, LIVELY_FEATURES + ROW + tokens * LOGITS],
        NONE,
    ];
    assert_eq!(copied(&device), expected);
    let mixed = ask("ext:0", "cpu");
    assert_eq!(mixed["tokens"], cpu["tokens"]);
    assert_eq!(
        copied(&mixed),
        [[1, LIVELY_CLIP], [1, LIVELY_FEATURES], NONE]
    );
}

#[test]
fn encode_copies_each_clip_and_its_features_once() {
    let plugins = plugin_folder(&["pretend-device"]);
    let (tiny, with) = replaced(plugins.path(), "ext:0", "cpu");
    let run = || {
        let run = tiny
            .run()
            .arg("encode")
            .arg("--out")
            .arg(tiny.path("features"));
        json(with(run.arg("--video").arg(small_clip())))
    };
    let first = run();
    assert_eq!(first["encoded"], 1);
    assert_eq!(
        copied(&first),
        [[1, LIVELY_CLIP], [1, LIVELY_FEATURES], NONE]
    );
    // Features from the cache are not copied to any device.
    assert_eq!(copied(&run()), [NONE, NONE, NONE]);
}

#[test]
fn devices_that_cannot_be_used_are_reported_with_the_line() {
    let plugins = plugin_folder(&["pretend-device"]);
    let fails = |encoder, words: &[&str]| {
        let (tiny, with) = replaced(plugins.path(), encoder, "cpu");
        with(tiny.generate()).finish().failed(1, words);
    };
    fails(
        "ext:1",
        &[
            "`pretend-device`",
            "ext:1 has 524288 bytes free",
            "786432 bytes are needed",
        ],
    );
    fails(
        "ext:2",
        &[
            "registry.toml:28: ",
            "`device` is ext:2, which does not exist",
        ],
    );
    fails(
        "cuda:0",
        &[
            "registry.toml:28: `device` in [[encoders]] #4",
            "cpu or ext",
        ],
    );
    let (tiny, with) = replaced(plugins.path(), "ext:0", "ext:0");
    let all = with(tiny.generate()).args(["--device", "ext:0"]).finish();
    all.failed(
        1,
        &[
            "`--device` does not match what plugin `languagebind`",
            "found: ext:0",
        ],
    );
}
