//! The settings of a registry are compared with what its plugins support, before anything is loaded.

use merv_tests::{Run, Tiny, assert_cases, plugin_folder};
use serde_json::{Value, json};
use std::{fs, sync::Arc};
use tempfile::TempDir;

const SIGLIP: &str = "id = \"siglip-vit-b16-224px-all-no-cls\"
plugin = \"siglip\"
num_frames = 16
weights = { path = \"siglip/model.safetensors\" }";

/// `info` about the copy, with the plugins for tests.
fn info(tiny: &Tiny, plugins: &Arc<TempDir>) -> Run {
    let run = tiny.run().keeping(plugins).arg("--plugin-dir");
    run.arg(plugins.path()).arg("info")
}

/// The position of `text` in the registry, as messages write it.
fn line_of(tiny: &Tiny, text: &str) -> String {
    let registry = fs::read_to_string(tiny.registry()).unwrap();
    let before = registry.split(text).next().unwrap();
    format!("registry.toml:{}: ", 1 + before.matches('\n').count())
}

#[test]
fn unsupported_settings_are_refused_with_the_line_and_both_values() {
    let plugins = Arc::new(plugin_folder(&["faulty", "snapshot-2-0"]));
    let fine = "id = \"fine\"\nplugin = \"faulty\"\nnum_frames = 16";
    let snapshot = "id = \"first-pixel-2.0.0\"\nplugin = \"snapshot-2-0\"\nnum_frames = 16\nweights = { path = \"mixer.safetensors\" }";
    let languagebind = "plugin = \"languagebind\"\nnum_frames = ";
    let vivit = "plugin = \"vivit\"\nnum_frames = ";
    let siglip = |line: &str| format!("{SIGLIP}\n{line}");
    // The text to replace, the new text, the line that the message names, and words.
    let cases: [(&str, String, &str, &[&str]); 13] = [
        (
            SIGLIP,
            format!("{fine}\nimage_size = 128"),
            "image_size = 128",
            &[
                "`image_size` in [[encoders]] #4",
                "plugin `faulty`",
                "64, as the plugin",
                "found: 128",
            ],
        ),
        (
            SIGLIP,
            format!("{snapshot}\nimage_size = 64"),
            "image_size = 64",
            &["plugin `snapshot`", "expected: 2, as", "found: 64"],
        ),
        (
            SIGLIP,
            format!("{fine}\ndtype = \"bf16\""),
            "dtype = \"bf16\"",
            &["`dtype`", "plugin `faulty`", "f32", "found: bf16"],
        ),
        (
            SIGLIP,
            format!("{fine}\ndevice = \"cuda:0\""),
            "device = \"cuda:0\"",
            &[
                "`device`",
                "plugin `faulty`",
                "expected: cpu",
                "found: cuda:0",
            ],
        ),
        (
            SIGLIP,
            siglip("device = \"cuda:1\""),
            "device = \"cuda:1\"",
            &["plugin `siglip`", "expected: cpu"],
        ),
        (
            SIGLIP,
            siglip("dtype = \"f16\""),
            "dtype = \"f16\"",
            &[
                "plugin `siglip`",
                "f32 or bf16",
                "do: correct `dtype` in [[encoders]] #4",
            ],
        ),
        (
            SIGLIP,
            siglip("image_size = 7"),
            "image_size = 7",
            &["plugin `siglip`", "from 8 pixels (one patch)", "found 7"],
        ),
        (
            SIGLIP,
            format!("{snapshot}\ndtype = \"bf16\""),
            "dtype = \"bf16\"",
            &["plugin `snapshot`", "expected: f32"],
        ),
        (
            "plugin = \"languagebind\"\nnum_frames = 16",
            format!("{languagebind}4"),
            "num_frames = 4\n",
            &[
                "plugin `languagebind`",
                "a multiple of 8",
                "found 4",
                "do: correct `num_frames` in [[encoders]] #1",
            ],
        ),
        (
            "plugin = \"vivit\"\nnum_frames = 32",
            format!("{vivit}16"),
            "num_frames = 16\nweights = { path = \"vivit",
            &["plugin `vivit`", "`num_frames` to be 32", "found 16"],
        ),
        (
            "plugin = \"vivit\"\nnum_frames = 32",
            format!("{vivit}32\nimage_size = 128"),
            "image_size = 128",
            &["plugin `vivit`", "`image_size` to be 64", "found 128"],
        ),
        (
            SIGLIP,
            SIGLIP.replace("\nweights = { path = \"siglip/model.safetensors\" }", ""),
            "[[encoders]]\nid = \"siglip",
            &[
                "`weights` is missing in [[encoders]] #4",
                "plugin `siglip` needs them",
            ],
        ),
        (
            SIGLIP,
            "id = \"of-other-frames\"\nplugin = \"faulty\"\nnum_frames = 16".to_owned(),
            "[[encoders]]\nid = \"of-other-frames",
            &["plugin `faulty`", "for 16 frames", "17 frames"],
        ),
    ];
    assert_cases(cases.map(|(from, to, blamed, words)| {
        let tiny = Tiny::new();
        tiny.replace("registry.toml", from, &to);
        let line = line_of(&tiny, blamed);
        let found = info(&tiny, &plugins).finish();
        let words: Vec<&str> = words.iter().copied().chain([line.as_str()]).collect();
        let mut verdict = found.check_failed(1, &words);
        if found.stderr.contains("config.json") {
            verdict = Err(format!("the message names a config file: {found}"));
        }
        (to, verdict)
    }));
}

/// `info` refuses a config that does not match the sizes of its weights, as loading does.
#[test]
fn info_finds_configs_that_contradict_their_weights() {
    let plugins = Arc::new(plugin_folder(&[]));
    // The model, a size in its config with its value and a wrong one, and the shape of the weights.
    let cases = [
        ("languagebind", "num_frames", [8, 4], "has shape [1, 8, 64]"),
        (
            "languagebind",
            "image_size",
            [64, 128],
            "has shape [65, 64]",
        ),
        ("vivit", "image_size", [64, 128], "has shape [1, 1025, 64]"),
    ];
    assert_cases(cases.map(|(model, key, [old, new], held)| {
        let tiny = Tiny::new();
        let [from, to] = [old, new].map(|value| format!("\"{key}\": {value}"));
        tiny.replace(&format!("{model}/config.json"), &from, &to);
        let file = tiny.path(&format!("{model}/model.safetensors"));
        let words = [&file.display().to_string(), held, &format!("`{key}`")];
        let found = info(&tiny, &plugins).finish().check_failed(1, &words);
        (format!("{model}: {to}"), found)
    }));
}

#[test]
fn an_unsupported_option_is_named() {
    let plugins = Arc::new(plugin_folder(&["faulty"]));
    let tiny = Tiny::new();
    let fine = "id = \"fine\"\nplugin = \"faulty\"\nnum_frames = 16";
    tiny.replace("registry.toml", SIGLIP, fine);
    let run = info(&tiny, &plugins).args(["--precision", "bf16"]);
    run.finish().failed(
        1,
        &["registry.toml: `--precision` does not match what plugin `faulty` describes"],
    );
}

#[test]
fn an_encoder_without_weights_needs_no_file() {
    let plugins = Arc::new(plugin_folder(&["faulty"]));
    let fine = "id = \"fine\"\nplugin = \"faulty\"\nnum_frames = 16";
    // Older registries name any file as weights. It is not read.
    for weights in ["", "\nweights = { path = \"registry.toml\" }"] {
        let tiny = Tiny::new();
        tiny.replace("registry.toml", SIGLIP, &format!("{fine}{weights}"));
        let found = info(&tiny, &plugins).arg("--json").finish().succeeded();
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        let encoder = &found["encoders"][3];
        assert_eq!(
            (&encoder["id"], &encoder["memory"]["weights"]),
            (&json!("fine"), &json!(0))
        );
        let run = tiny
            .generate()
            .keeping(&plugins)
            .arg("--plugin-dir")
            .arg(plugins.path());
        run.finish().succeeded();
    }
}

#[test]
fn a_tokenizer_with_more_tokens_than_embeddings_is_refused() {
    let tiny = Tiny::new();
    let path = tiny.path("llm/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let count = vocabulary.len();
    for id in count..1100 {
        vocabulary.insert(format!("surplus{id}"), json!(id));
    }
    fs::write(&path, tokenizer.to_string()).unwrap();
    let words = [
        "the tokenizer of [llm]",
        "at most 1024 tokens",
        "1100 tokens",
        "registry.toml:",
    ];
    tiny.generate().finish().failed(1, &words);
}
