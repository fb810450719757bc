//! `merv-host info`: the figures of a model that is not loaded.

use merv_tests::{Run, Tiny, fixture};
use serde_json::{Value, json};
use std::fs;

fn info(run: Run) -> Value {
    let run = run.args(["info", "--json"]).finish().succeeded();
    serde_json::from_str(&run.stdout).unwrap()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Without any of its files on this machine, the costs of `merv-full` equal those that torch counts.
#[test]
fn costs_of_the_published_model_match_torch() {
    let text = fs::read_to_string(fixture("costs.json")).unwrap();
    let counted: Value = serde_json::from_str(&text).unwrap();
    let found = info(Run::new().args(["--registry", "merv-full"]));
    let encoders = found["encoders"].as_array().unwrap();
    assert_eq!(encoders.len(), 4);
    for encoder in encoders {
        let id = encoder["id"].as_str().unwrap();
        assert_eq!(encoder["parameters"], counted[id]["parameters"], "{id}");
        assert_eq!(encoder["macs"], counted[id]["macs"], "{id}");
    }
    for key in ["parameters", "macs"] {
        assert_eq!(found["mixer"][key], counted["mixer"][key], "{key}");
    }
    let llm = &counted["llama2-7b-pure"];
    assert_eq!(found["llm"]["parameters"], llm["parameters"]);
    assert_eq!(found["llm"]["macs_per_token"], llm["macs"]);
    // The totals are the sums. The language model reads 1024 visual tokens.
    let costs = counted.as_object().unwrap().values();
    let parameters: u64 = costs.clone().map(|cost| number(&cost["parameters"])).sum();
    assert_eq!(found["parameters"], parameters);
    let macs: u64 = costs.map(|cost| number(&cost["macs"])).sum();
    assert_eq!(found["macs"], macs + 1023 * number(&llm["macs"]));
}

/// The tokens at every stage and the memory equal those computed by hand.
#[test]
fn tokens_and_memory_of_the_published_model_match_hand_computed_values() {
    let found = info(Run::new().args(["--registry", "merv-full"]));
    assert_eq!(found["num_frames"], 32);
    for (index, (frames, spatial)) in [(16, 256), (16, 256), (32, 196), (16, 196)]
        .into_iter()
        .enumerate()
    {
        let encoder = &found["encoders"][index];
        assert_eq!(encoder["num_frames"], frames);
        assert_eq!(encoder["temporal"], 16);
        assert_eq!(encoder["tokens"], 16 * spatial);
        assert_eq!(encoder["projected_tokens"], 1024);
        // Weights, a clip and features, all in f32.
        let pixels = frames * 3 * 224 * 224;
        let features = 16 * spatial * number(&encoder["width"]);
        assert_eq!(encoder["memory"]["features"], 4 * (pixels + features));
        assert_eq!(
            encoder["memory"]["weights"],
            4 * number(&encoder["parameters"])
        );
        let activations = number(&encoder["memory"]["activations"]);
        assert!((10 << 20..1 << 30).contains(&activations), "{activations}");
    }
    assert_eq!(found["visual_tokens"], 1024);
    assert_eq!(found["mixer"]["tokens"], 1024);
    let llm = &found["llm"];
    assert_eq!(llm["prompt_tokens"], 2048);
    // 32 layers with 4096 keys and 4096 values each, for 1024 visual and 2048 text tokens.
    let cache = number(&llm["cache_bytes_per_token"]);
    assert_eq!(cache % (32 * 2 * 4096), 0, "{cache}");
    assert_eq!(llm["memory"]["cache"], 3072 * cache);
    let memory = &found["memory"];
    let parts = ["weights", "features", "activations", "cache"].map(|part| number(&memory[part]));
    assert_eq!(found["memory_bytes"], parts.iter().sum::<u64>());
    let most = found["encoders"].as_array().unwrap().iter();
    let most = most.chain([&found["mixer"], llm]);
    let most = most
        .map(|part| number(&part["memory"]["activations"]))
        .max();
    assert_eq!(memory["activations"], most.unwrap());
}

#[test]
fn the_table_shows_the_token_counts_of_each_stage() {
    let run = Run::new().args(["--registry", "merv-full", "info"]);
    let text = run.finish().succeeded().stdout;
    for part in [
        "languagebind-video-noclass",
        "16 × 256 → 1024",
        "3davg+linear, cross_attention_avg_lq",
        "32 frames → 16 × 256 + 16 × 256 + 16 × 196 + 16 × 196 from the encoders",
        "→ 1024 + 1024 + 1024 + 1024 projected → 1024 visual; at most 2048 of text",
        "7.6 G",
        "1.6 T",
        "activations",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// `info` reports the costs of untrained mixers with other projectors and fusions than the default.
#[test]
fn costs_of_untrained_mixers_are_known() {
    let cases = [
        // Projector, fusion, visual tokens, and parameters of both, for four encoders of width 64, a language model of
        // width 96 and a query of width 80.
        ("3davg+linear", "concat", 1024, 4 * (64 * 96 + 96)),
        ("3davg+linear", "first", 256, 4 * (64 * 96 + 96)),
        ("3davg+linear", "scalar", 256, 4 * (64 * 96 + 96) + 4),
        (
            "avg+gelu-mlp",
            "concat_channel",
            256,
            4 * (64 * 96 + 96 + 96 * 96 + 96) + 384 * 96 + 96,
        ),
        (
            "3davg+linear",
            "cross_attention_avg_lq",
            256,
            4 * (64 * 96 + 96) + 80 + 240 + 80 * 80 + 80 * 96,
        ),
        (
            "3dconv+none",
            "concat_channel_ln",
            256,
            4 * (64 * 27 * 96 + 96) + 384 * 2 + 384 * 96 + 96,
        ),
    ];
    for (projector, fusion, tokens, parameters) in cases {
        let tiny = Tiny::new();
        tiny.replace("registry.toml", "3davg+linear", projector);
        tiny.replace("registry.toml", "cross_attention_avg_lq", fusion);
        let trained = "{ path = \"mixer.safetensors\" }";
        let untrained = match fusion {
            "cross_attention_avg_lq" => "{ init = true, query_width = 80 }",
            _ => "{ init = true }",
        };
        tiny.replace("registry.toml", trained, untrained);
        let found = info(tiny.run());
        assert_eq!(found["visual_tokens"], tokens, "{projector}, {fusion}");
        assert_eq!(found["mixer"]["tokens"], tokens, "{projector}, {fusion}");
        assert_eq!(
            found["mixer"]["parameters"], parameters,
            "{projector}, {fusion}"
        );
    }
}

/// `--precision` overrides the registry's dtype. The memory of the weights does not depend on either.
#[test]
fn a_precision_overrides_the_registry() {
    let plain = Tiny::new();
    let rounded = Tiny::new();
    rounded.replace("registry.toml", "plugin = ", "dtype = \"bf16\"\nplugin = ");
    let cases = [
        (&plain, &[][..], "f32"),
        (&plain, &["--precision", "bf16"], "bf16"),
        (&rounded, &[], "bf16"),
        (&rounded, &["--precision", "f32"], "f32"),
    ];
    let weights = info(plain.run())["memory"]["weights"].clone();
    for (model, arguments, expected) in cases {
        let found = info(model.run().args(arguments));
        let encoders = found["encoders"].as_array().unwrap();
        assert_eq!(encoders.len(), 4);
        for part in encoders.iter().chain([&found["llm"]]) {
            assert_eq!(part["dtype"], expected, "{arguments:?}: {}", part["id"]);
        }
        assert_eq!(found["memory"]["weights"], weights, "{arguments:?}");
    }
}

#[test]
fn a_description_cannot_drive_the_terminal() {
    let tiny = Tiny::new();
    tiny.replace(
        "registry.toml",
        "description = \"",
        "description = \"a\\u001b[31mb ",
    );
    let shown = tiny.run().arg("info").finish().succeeded().stdout;
    assert!(shown.contains("a\\u{1b}[31mb"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn files_that_are_not_on_this_machine_are_listed_as_unchecked() {
    let run = Run::new().args(["--registry", "merv-full", "info"]);
    let text = run.finish().succeeded().stdout;
    let words = "unchecked   the contents of files that are not on this machine: hf://";
    assert!(text.contains(words), "{text}");
    let run = Run::new().args(["--registry", "merv-full", "info", "--json"]);
    let found: Value = serde_json::from_str(&run.finish().succeeded().stdout).unwrap();
    assert!(found["unchecked"].as_array().unwrap().len() > 3, "{found}");
    let whole = Tiny::new()
        .run()
        .args(["info", "--load", "--json"])
        .finish()
        .succeeded();
    let whole: Value = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!(whole["unchecked"], json!([]));
}
