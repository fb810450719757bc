//! Configs and tokenizers of models that are damaged, impossible, or do not match the weights.

use super::MODELS;
use merv_tests::{Tiny, assert_all_fail};
use std::fs;

#[test]
fn damaged_configs_are_refused() {
    let contents = [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "{\"architecture\": 7}",
        "\u{0}\u{1}",
    ];
    assert_all_fail(
        1,
        contents.map(|text| {
            let tiny = Tiny::new();
            let mut words = vec![];
            for (model, _) in MODELS {
                let path = tiny.path(model).join("config.json");
                fs::write(&path, text).unwrap();
                words.push(path.display().to_string());
            }
            (format!("{text:?}"), tiny.generate().finish(), words)
        }),
    );
}

/// Sizes in the configs of the lively model: the folder, the key and its value.
const SIZES: [(&str, &str, &str); 27] = [
    ("siglip", "img_size", "64"),
    ("siglip", "patch_size", "8"),
    ("siglip", "embed_dim", "64"),
    ("siglip", "depth", "3"),
    ("siglip", "num_heads", "4"),
    ("siglip", "mlp_ratio", "2"),
    ("dinov2", "img_size", "64"),
    ("dinov2", "embed_dim", "64"),
    ("dinov2", "reg_tokens", "4"),
    ("languagebind", "num_frames", "8"),
    ("languagebind", "hidden_size", "64"),
    ("languagebind", "num_hidden_layers", "3"),
    ("languagebind", "num_attention_heads", "4"),
    ("languagebind", "intermediate_size", "128"),
    ("languagebind", "patch_size", "8"),
    ("vivit", "hidden_size", "64"),
    ("vivit", "image_size", "64"),
    ("vivit", "num_hidden_layers", "3"),
    ("vivit", "num_attention_heads", "4"),
    ("vivit", "intermediate_size", "128"),
    ("llm", "hidden_size", "96"),
    ("llm", "head_dim", "24"),
    ("llm", "intermediate_size", "192"),
    ("llm", "num_hidden_layers", "4"),
    ("llm", "num_attention_heads", "4"),
    ("llm", "num_key_value_heads", "2"),
    ("llm", "vocab_size", "1024"),
];

/// Checks that each size set to each of `values` is an error that names a file in the folder of the config.
fn refused_sizes(values: &[&str]) {
    let cases = SIZES
        .iter()
        .flat_map(|size| values.iter().map(move |value| (size, value)));
    assert_all_fail(
        1,
        cases.map(|(&(model, key, old), value)| {
            let tiny = Tiny::new();
            let [from, to] = [old, value].map(|value| format!("\"{key}\": {value}"));
            tiny.replace(&format!("{model}/config.json"), &from, &to);
            let words = vec![tiny.path(model).display().to_string()];
            (
                format!("{model}: {key} = {value}"),
                tiny.generate().finish(),
                words,
            )
        }),
    );
}

#[test]
fn impossible_sizes_are_refused() {
    refused_sizes(&["0", "-1"]);
}

/// A size that exceeds any memory must be refused before memory of that size is allocated.
#[test]
fn absurd_sizes_are_refused() {
    refused_sizes(&["3000000000000", "18446744073709551615"]);
}

#[test]
fn configs_that_do_not_match_the_weights_are_refused() {
    let cases = [
        (
            "siglip",
            "\"embed_dim\": 64",
            "\"embed_dim\": 68",
            "blocks.0.attn.qkv.weight",
        ),
        (
            "dinov2",
            "\"depth\": 4",
            "\"depth\": 5",
            "`blocks.4.norm1.weight` is missing",
        ),
        (
            "languagebind",
            "\"intermediate_size\": 128",
            "\"intermediate_size\": 120",
            "mlp.fc1",
        ),
        (
            "vivit",
            "\"num_hidden_layers\": 3",
            "\"num_hidden_layers\": 4",
            "is missing",
        ),
        (
            "llm",
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 3",
            "heads",
        ),
        ("siglip", "\"num_heads\": 4", "\"num_heads\": 5", "5 heads"),
        (
            "siglip",
            "\"depth\": 3",
            "\"depth\": 3, \"qk_norm\": true",
            "qk_norm",
        ),
        (
            "siglip",
            "vit_base_patch16_siglip_224",
            "resnet50",
            "resnet50",
        ),
        (
            "llm",
            "\"model_type\": \"llama\"",
            "\"model_type\": \"mamba\"",
            "mamba",
        ),
    ];
    assert_all_fail(
        1,
        cases.map(|(model, from, to, word)| {
            let tiny = Tiny::new();
            tiny.replace(&format!("{model}/config.json"), from, to);
            let words = vec![tiny.path(model).display().to_string(), word.to_owned()];
            (format!("{model}: {to}"), tiny.generate().finish(), words)
        }),
    );
}

/// Settings that would change the logits and are not supported are refused before the weights are downloaded.
#[test]
fn unsupported_settings_of_llamas_are_refused() {
    const NO_ROPE: &str = "\"rope_scaling\": null";
    let cases = [
        ("\"quantization_config\": {}", "found `quantization_config`"),
        (
            "\"partial_rotary_factor\": 0.5",
            "found `partial_rotary_factor`",
        ),
        (
            "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2}",
            "yarn",
        ),
        (
            "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, \"rope_theta\": 1e4}",
            "yarn",
        ),
        (
            "\"rope_parameters\": {\"rope_theta\": 1e4, \"partial_rotary_factor\": 0.5}",
            "found `partial_rotary_factor`",
        ),
        ("\"rope_scaling\": {\"factor\": 2}", "`(none)`"),
    ];
    let commands = [|tiny: &Tiny| tiny.run().arg("info"), Tiny::generate];
    let cases = cases
        .iter()
        .flat_map(|case| commands.iter().map(move |command| (case, command)));
    assert_all_fail(
        1,
        cases.map(|(&(keys, word), command)| {
            let tiny = Tiny::new();
            tiny.replace("llm/config.json", NO_ROPE, keys);
            let file = tiny.path("llm/config.json").display().to_string();
            (
                keys.to_owned(),
                command(&tiny).finish(),
                vec![file, word.to_owned(), "plugin `llama2`".to_owned()],
            )
        }),
    );
}

#[test]
fn invalid_tokenizers_are_refused() {
    let whole = fs::read(Tiny::new().path("llm/tokenizer.json")).unwrap();
    let half = String::from_utf8_lossy(&whole[..whole.len() / 2]).into_owned();
    assert_all_fail(
        1,
        ["", "{}", "hello", &half].map(|text| {
            let tiny = Tiny::new();
            let path = tiny.path("llm/tokenizer.json");
            fs::write(&path, text).unwrap();
            let words = vec![
                path.display().to_string(),
                "do: download `tokenizer.json`".to_owned(),
            ];
            (format!("{:.20}", text), tiny.generate().finish(), words)
        }),
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    // Its ids exceed the embedding table.
    let tiny = Tiny::new();
    let path = tiny.path("llm/tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for id in json["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *id = (id.as_u64().unwrap() + 5000).into();
    }
    fs::write(&path, json.to_string()).unwrap();
    tiny.generate()
        .finish()
        .failed(1, &["tokenizer.json", "the tokenizer of [llm]", "1024"]);
}
