//! Untrained mixers: which tensors are new and which are reused, and how they are trained.

use merv_tests::{Finished, Run, Tiny, TrainingRun, read, tiny_with_one_encoder};
use serde_json::{Value, json};
use std::fs;

const WEIGHTS: &str = "weights = { path = \"mixer.safetensors\" }\n";

/// A copy of the lively model with this value as `weights` of its mixer.
fn with_weights(weights: &str) -> Tiny {
    let tiny = Tiny::new();
    let table = "visual_feature_length = 256\n";
    let from = format!("{table}{WEIGHTS}");
    tiny.replace(
        "registry.toml",
        &from,
        &format!("{table}weights = {weights}\n"),
    );
    tiny
}

/// The same with SigLIP as the only encoder.
fn small(weights: &str) -> Tiny {
    let tiny = tiny_with_one_encoder();
    let table = "visual_feature_length = 256\n";
    let from = format!("{table}{WEIGHTS}");
    tiny.replace(
        "registry.toml",
        &from,
        &format!("{table}weights = {weights}\n"),
    );
    tiny
}

fn json_of(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

fn info(tiny: &Tiny) -> Value {
    json_of(&tiny.run().args(["info", "--json"]).finish().succeeded())
}

/// The names of tensors, each with that of the tensor from which it is reused.
fn names(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = list
        .as_array()
        .unwrap_or_else(|| panic!("{list} is not a list"));
    let pairs = list
        .iter()
        .map(|tensor| (text(&tensor["name"]), text(&tensor["from"])));
    pairs.collect()
}

#[test]
fn a_new_mixer_has_new_tensors() {
    let tiny = with_weights("\"init\"");
    let mixer = &info(&tiny)["mixer"];
    assert_eq!(mixer["weights"], "init, seed 0");
    let untrained = &mixer["untrained"];
    assert_eq!(untrained["seed"], 0);
    assert_eq!(untrained["reuse"], Value::Null);
    assert_eq!(untrained["reused"], json!([]));
    let new = names(&untrained["new"]);
    // The weights and biases of four projectors, and the fusion.
    assert_eq!(new.len(), 4 * 2 + 7);
    let query = untrained["new"].as_array().unwrap().iter();
    let query = query.filter(|tensor| tensor["name"] == "feature_fusion.Q");
    assert_eq!(
        query.map(|q| q["shape"].clone()).collect::<Vec<_>>(),
        [json!([1, 3072])]
    );

    let text = tiny.run().arg("info").finish().succeeded().stdout;
    for words in [
        "not trained: 15 tensors, 15 new (seed 0)",
        "feature_fusion.Q",
        "[1, 3072]",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    // A trained model has no such entry.
    assert_eq!(info(&Tiny::new())["mixer"]["untrained"], Value::Null);
}

#[test]
fn matching_tensors_are_reused_by_encoder() {
    let ids = "encoders = [\"siglip-vit-b16-224px-all-no-cls\", \"other\", \"languagebind-video-noclass\", \"more\"]";
    let tiny = with_weights(&format!(
        "{{ init = true, seed = 3, reuse = {{ path = \"mixer.safetensors\", {ids} }} }}"
    ));
    let untrained = info(&tiny)["mixer"]["untrained"].clone();
    assert_eq!(untrained["seed"], 3);
    let reused = names(&untrained["reused"]);
    // SigLIP and encoder 0 of that file have different widths, so only the bias of its projector would fit.
    let from = |here: &str| {
        reused
            .iter()
            .find(|(name, _)| name == here)
            .map(|(_, from)| from.as_str())
    };
    assert_eq!(from("feature_fusion.Q"), Some("feature_fusion.Q"));
    // The query has the width of the reused one.
    let tensors = untrained["reused"].as_array().unwrap().iter();
    let query: Vec<_> = tensors
        .filter(|tensor| tensor["name"] == "feature_fusion.Q")
        .map(|tensor| tensor["shape"].clone())
        .collect();
    assert_eq!(query, [json!([1, 80])]);
    assert_eq!(
        from("projectors.3.projector.projector.bias"),
        Some("projectors.0.projector.projector.bias")
    );
    assert_eq!(
        from("projectors.0.projector.projector.bias"),
        Some("projectors.2.projector.projector.bias")
    );
    let new = names(&untrained["new"]);
    let is_new = |name: &str| new.iter().any(|(new, _)| new == name);
    assert!(is_new("projectors.1.projector.projector.weight"));
    assert!(is_new("projectors.1.projector.projector.bias"));
    assert_eq!(new.len() + reused.len(), 15);
    let text = tiny.run().arg("info").finish().succeeded().stdout;
    let words = format!(
        "15 tensors, {} new (seed 3), {} reused from",
        new.len(),
        reused.len()
    );
    assert!(text.contains(&words), "{words:?} is not in: {text}");
    // An unknown id may be a misspelt one.
    let unknown_ids = "lists `other`, `more`, but no encoder of this registry has that id";
    assert!(
        text.contains(unknown_ids),
        "{unknown_ids:?} is not in: {text}"
    );
    let run = TrainingRun::new("align").arg("--registry");
    let run = run.arg(tiny.registry().display().to_string());
    let run = run.set("max_steps", 1);
    let dry = run.run().arg("--dry-run").finish().succeeded();
    assert!(
        dry.stdout.contains(unknown_ids),
        "{unknown_ids:?} is not in: {dry}"
    );
    let run = run.run().finish().succeeded();
    assert!(
        run.stderr.contains(unknown_ids),
        "{unknown_ids:?} is not in: {run}"
    );
}

#[test]
fn a_wrong_number_of_ids_is_refused() {
    for ids in ["\"one\"", "\"a\", \"b\", \"c\", \"d\", \"e\""] {
        let tiny = with_weights(&format!(
            "{{ init = true, reuse = {{ path = \"mixer.safetensors\", encoders = [{ids}] }} }}"
        ));
        let words = [
            "mixer.safetensors",
            "does not match the number of encoders",
            "expected: 4",
        ];
        tiny.run().arg("info").finish().failed(1, &words);
        tiny.generate().finish().failed(1, &words);
    }
}

#[test]
fn without_ids_projectors_are_matched_by_index() {
    let tiny = with_weights("{ init = true, reuse = { path = \"mixer.safetensors\" } }");
    let untrained = info(&tiny)["mixer"]["untrained"].clone();
    assert_eq!(untrained["new"], json!([]));
    // Everything is reused from the trained mixer, so the answer is the same.
    let answer = |tiny: &Tiny| tiny.generate().finish().succeeded().stdout;
    assert_eq!(answer(&tiny), answer(&Tiny::new()));
}

#[test]
fn another_kind_reuses_fewer_tensors_and_reusing_none_is_an_error() {
    let other = |projector: &str, fusion: &str| {
        let tiny = with_weights("{ init = true, reuse = { path = \"mixer.safetensors\" } }");
        tiny.replace("registry.toml", "3davg+linear", projector);
        tiny.replace("registry.toml", "cross_attention_avg_lq", fusion);
        tiny
    };
    let untrained =
        info(&other("3davg+gelu-mlp", "cross_attention_avg_lq"))["mixer"]["untrained"].clone();
    let reused = names(&untrained["reused"]);
    assert!(
        reused
            .iter()
            .all(|(name, _)| name.starts_with("feature_fusion.")),
        "{reused:?}"
    );
    let tiny = other("3davg+gelu-mlp", "scalar");
    let words = [
        "mixer.safetensors",
        "no tensor in",
        "matches a tensor of this mixer",
        "`reuse`",
        "projectors.0.projector.projector.0.weight",
    ];
    tiny.run().arg("info").finish().failed(1, &words);
    tiny.generate().finish().failed(1, &words);
}

#[test]
fn answers_report_an_untrained_mixer() {
    let tiny = small("{ init = true, query_width = 32 }");
    let words = "the mixer of `lively` has not been trained";
    let finished = tiny.generate().arg("--json").finish().succeeded();
    assert!(finished.stderr.contains(words), "{finished}");
    assert_eq!(json_of(&finished)["mixer_is_trained"], false);
    let chat = tiny
        .run()
        .arg("chat")
        .arg("--video")
        .arg(merv_tests::small_clip());
    let chat = chat
        .args(["--json", "--max-new-tokens", "2"])
        .input(b"What?\n");
    let finished = chat.finish().succeeded();
    assert!(finished.stderr.contains(words), "{finished}");
    assert_eq!(json_of(&finished)["mixer_is_trained"], false);
    let trained = Tiny::new().generate().arg("--json").finish().succeeded();
    assert_eq!(json_of(&trained)["mixer_is_trained"], true);
    assert!(
        !trained.stderr.contains("has not been trained"),
        "{trained}"
    );
}

fn training(tiny: &Tiny) -> TrainingRun {
    let registry = tiny.registry().display().to_string();
    let run = TrainingRun::new("align").arg("--registry").arg(registry);
    run.set("max_steps", 4).set("save_every", 2)
}

#[test]
fn training_starts_from_it_and_leaves_an_ordinary_mixer() {
    let weights =
        "{ init = true, seed = 5, query_width = 32, reuse = { path = \"mixer.safetensors\" } }";
    let tiny = small(weights);
    let whole = training(&tiny);
    let dry = json_of(
        &whole
            .run()
            .args(["--dry-run", "--json"])
            .finish()
            .succeeded(),
    );
    let untrained = &dry["untrained_mixer"];
    assert_eq!(*untrained, info(&tiny)["mixer"]["untrained"]);
    let reused = names(&untrained["reused"]);
    assert_eq!(
        reused.len(),
        2,
        "the projector's weight and bias: {reused:?}"
    );
    let text = whole.run().arg("--dry-run").finish().succeeded().stdout;
    assert!(
        text.contains("not trained: 9 tensors, 7 new (seed 5), 2 reused"),
        "{text}"
    );

    whole.run().finish().succeeded();
    // An interrupted and resumed run gives the same bits.
    let parted = training(&tiny);
    let metrics = parted.out().join("metrics.jsonl");
    let has_begun = |_| fs::metadata(&metrics).is_ok_and(|about| about.len() > 0);
    parted.run().signal_when("TERM", has_begun).succeeded();
    parted.run().arg("--resume").finish().succeeded();
    assert_eq!(parted.digests(4), whole.digests(4));
    assert_eq!(parted.curve("loss"), whole.curve("loss"));
    // Another seed gives another start.
    let other = small(&weights.replace("seed = 5", "seed = 6"));
    let other = training(&other);
    other.run().finish().succeeded();
    assert_ne!(other.digests(4), whole.digests(4));

    let registry = whole.out().join("registry.toml");
    let text = fs::read_to_string(&registry).unwrap();
    assert!(!text.contains("init") && !text.contains("reuse"), "{text}");
    let run = Run::new().arg("--registry").arg(&registry);
    let trained = json_of(&run.args(["info", "--json"]).finish().succeeded());
    assert_eq!(trained["mixer"]["untrained"], Value::Null);
    // The file contains all tensors of the original, including unused ones.
    let mixer = read(&whole.checkpoint(4).join("mixer.safetensors"));
    let mut found: Vec<_> = mixer.names().map(str::to_owned).collect();
    let mut expected: Vec<_> = ["new", "reused"]
        .iter()
        .flat_map(|key| names(&untrained[key]))
        .map(|(name, _)| name)
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    // The next stage can start from it as from any model.
    let next = TrainingRun::new("finetune")
        .arg("--from")
        .arg(whole.out().display().to_string());
    next.set("max_steps", 1).run().finish().succeeded();
}

#[test]
fn published_weights_can_be_reused_before_they_are_downloaded() {
    let tiny = with_weights(
        "{ init = true, reuse = { repo = \"owner/name\", file = \"mixer.safetensors\" } }",
    );
    let untrained = info(&tiny)["mixer"]["untrained"].clone();
    assert_eq!(untrained["reuse"], "hf://owner/name/mixer.safetensors");
    assert_eq!(
        (&untrained["new"], &untrained["reused"]),
        (&Value::Null, &Value::Null)
    );
    let text = tiny.run().arg("info").finish().succeeded().stdout;
    assert!(text.contains("which is not on this machine"), "{text}");
    tiny.generate()
        .finish()
        .failed(1, &["hf://owner/name/mixer.safetensors", "hf download"]);
}
