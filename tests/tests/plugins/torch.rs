//! The models that compute with libtorch beside those that compute with candle: they give and learn the same in one model.
//! `make test-torch` builds the plugin and runs this.

use merv_tests::{Tensors, Tiny, TrainingRun, read, torch_plugin};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// The encoders' plugins of the lively model.
const ENCODERS: [&str; 4] = ["languagebind", "dinov2", "vivit", "siglip"];
const LANGUAGE_MODEL: &str = "llama2";

/// The lively model, of which the models of these plugins compute with libtorch.
fn with_torch(of_ours: &[&str]) -> Tiny {
    let plugin = torch_plugin().expect("`make test-torch` sets MERV_TORCH_PLUGIN");
    let tiny = Tiny::new();
    for of_ours in of_ours {
        tiny.replace(
            "registry.toml",
            &format!("plugin = \"{of_ours}\""),
            &format!("plugin = {{ path = \"{}\" }}", plugin.display()),
        );
    }
    tiny
}

fn all() -> Vec<&'static str> {
    [&ENCODERS[..], &[LANGUAGE_MODEL]].concat()
}

/// Compares numbers with the largest of the expected ones, because sums in another order differ by rounding.
#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let errors = found.iter().zip(expected).map(|(x, y)| (x - y).abs());
    let worst = errors.fold(0.0f32, f32::max) / scale;
    println!("{what}: {worst:.1e} of {scale:.1e}");
    assert!(worst <= tolerance, "{what}: {worst:e}");
}

/// The plugin of libtorch is loaded before and after those of candle, and beside them in one process.
#[test]
#[ignore = "needs libtorch: make test-torch"]
fn features_logits_and_answers_are_those_of_our_plugins() {
    let dump = |tiny: &Tiny| -> (Value, Tensors) {
        let out = TempDir::new().unwrap();
        let path = out.path().join("dump");
        let run = tiny.generate().args(["--json", "--dump"]).arg(&path);
        let run = run.finish().succeeded();
        (serde_json::from_str(&run.stdout).unwrap(), read(&path))
    };
    let ours = dump(&Tiny::new());
    let names = ours
        .1
        .names()
        .filter(|name| name.starts_with("features.") || ["fused", "logits"].contains(name));
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 6);
    for of_torch in [
        &all()[..],
        &["languagebind"],
        &["dinov2", "siglip"],
        &[LANGUAGE_MODEL],
    ] {
        let mixed = dump(&with_torch(of_torch));
        for name in &names {
            let [ours, mixed] = [&ours.1, &mixed.1].map(|dump| &dump.get(name).values);
            assert_near(&format!("{of_torch:?}, {name}"), mixed, ours, 2e-5);
        }
        assert_eq!(ours.0["text"], mixed.0["text"], "{of_torch:?}");
    }
}

/// The lively model whose mixer computes with libtorch, beside encoders that compute with candle.
#[test]
#[ignore = "needs libtorch: make test-torch"]
fn the_mixer_of_libtorch_gives_the_same_answers() {
    let plugin = torch_plugin().expect("`make test-torch` sets MERV_TORCH_PLUGIN");
    let tiny = Tiny::new();
    let query = read(&tiny.path("mixer.safetensors"));
    let width = query.get("feature_fusion.Q").shape[1];
    let path = plugin.display();
    tiny.replace(
        "registry.toml",
        "projector = \"3davg+linear\"\nfusion = \"cross_attention_avg_lq\"",
        &format!(
            "projector = \"none\"\nfusion = {{ id = \"merv-mixer\", plugin = {{ path = \"{path}\" }}, options = {{ \
             projector = \"3davg+linear\", fusion = \"cross_attention_avg_lq\", token_length = \"16\", \
             query_width = \"{width}\" }} }}"
        ),
    );
    let answer = |tiny: &Tiny| -> Value {
        let run = tiny.generate().arg("--json").finish().succeeded();
        serde_json::from_str(&run.stdout).unwrap()
    };
    let (ours, of_torch) = (answer(&Tiny::new()), answer(&tiny));
    for key in ["text", "tokens", "visual_tokens"] {
        assert_eq!(ours[key], of_torch[key], "{key}");
    }
}

#[test]
#[ignore = "needs libtorch: make test-torch"]
fn a_missing_device_is_an_error_with_advice() {
    let tiny = with_torch(&all());
    for device in ["cuda", "cuda:7"] {
        let run = tiny.generate().args(["--device", device]).finish();
        let device = if device == "cuda" { "cuda:0" } else { device };
        run.check_failed(
            1,
            &[
                &format!("{device} was requested"),
                "no CUDA device",
                "`device = \"cpu\"`",
            ],
        )
        .unwrap_or_else(|error| panic!("{error}"));
    }
}

fn training(tiny: &Tiny) -> TrainingRun {
    TrainingRun::new("full-finetune")
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .set("epochs", 9)
        .set("max_steps", 4)
        .set("save_every", 2)
        .set("learning_rate", 1e-3)
}

#[test]
#[ignore = "needs libtorch: make test-torch"]
fn they_learn_as_our_plugins_do_and_are_resumed() {
    let (ours, tiny) = (Tiny::new(), with_torch(&all()));
    let expected = training(&ours);
    expected.run().finish().succeeded();
    let found = training(&tiny);
    found.run().finish().succeeded();
    let curves = [found.curve("loss"), expected.curve("loss")];
    println!("losses: {curves:?}");
    assert_eq!(curves[0].len(), 4);
    for (found, expected) in curves[0].iter().zip(&curves[1]) {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    }
    let before = read(&ours.path("llm/model.safetensors"));
    for file in checkpoint_files(&expected) {
        let [found, expected] = [&found, &expected].map(|run| read(&run.checkpoint(4).join(&file)));
        assert!(expected.names().eq(found.names()), "{file}");
        for name in expected.names() {
            let tensors = [&found, &expected].map(|tensors| &tensors.get(name).values);
            assert_near(name, tensors[0], tensors[1], 1e-4);
        }
        if file.starts_with("llm") {
            let name = "model.norm.weight";
            assert_ne!(found.get(name).values, before.get(name).values);
        }
    }

    // Resumed from the checkpoint before the last, the run is the same.
    let (losses, digests) = (found.curve("loss"), found.digests(4));
    fs::remove_dir_all(found.checkpoint(4)).unwrap();
    found.resumed().finish().succeeded();
    assert_eq!(found.curve("loss"), losses);
    assert_eq!(found.digests(4), digests);
}

/// The files with weights in the last checkpoint.
fn checkpoint_files(run: &TrainingRun) -> Vec<String> {
    let files = fs::read_dir(run.checkpoint(4)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name.ends_with(".safetensors") && !name.contains("moment"))
        .collect();
    names.sort();
    names
}
