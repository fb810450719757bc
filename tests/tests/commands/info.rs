//! What `info` says before anything is loaded.

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
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Without a file of its own on this machine, `merv-full` costs what torch counts.
#[test]
fn the_published_models_cost_what_torch_counts() {
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
    // The totals are the sums, the language model reading 1024 visual tokens.
    let costs = counted.as_object().unwrap().values();
    let parameters: u64 = costs.clone().map(|cost| number(&cost["parameters"])).sum();
    assert_eq!(found["parameters"], parameters);
    let macs: u64 = costs.map(|cost| number(&cost["macs"])).sum();
    assert_eq!(found["macs"], macs + 1023 * number(&llm["macs"]));
}

/// Tokens at every stage, and memory, by hand.
#[test]
fn tokens_and_memory_of_the_published_models_are_as_by_hand() {
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
        // Weights, a clip and features, all of them f32.
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
    // 32 layers of 4096 keys and 4096 values for 1024 visual and 2048 text tokens.
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
fn the_table_tells_the_way_of_the_tokens() {
    let run = Run::new().args(["--registry", "merv-full", "info"]);
    let text = run.finish().succeeded().stdout;
    for part in [
        "languagebind-video-noclass",
        "16 × 256 → 1024",
        "3davg+linear, cross_attention_avg_lq",
        "32 frames → 16 × 256 + 16 × 256 + 16 × 196 + 16 × 196 of the encoders",
        "→ 1024 + 1024 + 1024 + 1024 projected → 1024 visual, beside 2048 of text at most",
        "7.6 G",
        "1.6 T",
        "to compute in",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// Other projectors and fusions than the default, of a model that is here: what info says is what
/// comes out.
#[test]
fn other_mixers_are_counted_before_their_weights_exist() {
    let cases = [
        // Tokens of the fusion, projector's and fusion's parameters: of four encoders 64 wide, for a
        // language model 96 wide, whose query is 80 wide.
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

/// What is multiplied in is the registry's, or what goes before it; how much the weights take does not depend
/// on it.
#[test]
fn a_precision_goes_before_the_registrys() {
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
fn what_is_not_here_is_said_to_be_unchecked() {
    let run = Run::new().args(["--registry", "merv-full", "info"]);
    let text = run.finish().succeeded().stdout;
    let words = "unchecked   what is in files that are not on this machine: hf://";
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
