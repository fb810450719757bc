//! A language model and an encoder that compute with libtorch: they give and learn the same as those of our own plugins.
//! `make check-torch` builds the plugin and runs this.

use merv_tests::{Tensors, Tiny, TrainingRun, read};
use serde_json::Value;
use std::{env, fs};
use tempfile::TempDir;

/// The lively model, whose SigLIP and language model compute with libtorch.
fn of_torch() -> Tiny {
    let plugin = env::var("MERV_TORCH_PLUGIN").expect("`make check-torch` sets MERV_TORCH_PLUGIN");
    let tiny = Tiny::new();
    for plugin_of_ours in ["siglip", "llama2"] {
        tiny.replace(
            "registry.toml",
            &format!("plugin = \"{plugin_of_ours}\""),
            &format!("plugin = {{ path = \"{plugin}\" }}"),
        );
    }
    tiny
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

#[test]
#[ignore = "needs libtorch: make check-torch"]
fn features_logits_and_answers_are_those_of_our_plugins() {
    let dump = |tiny: &Tiny| -> (Value, Tensors) {
        let out = TempDir::new().unwrap();
        let path = out.path().join("dump");
        let run = tiny.generate().args(["--json", "--dump"]).arg(&path);
        let run = run.finish().succeeded();
        (serde_json::from_str(&run.stdout).unwrap(), read(&path))
    };
    let (ours, of_torch) = (dump(&Tiny::new()), dump(&of_torch()));
    for name in [
        "features.siglip-vit-b16-224px-all-no-cls",
        "fused",
        "logits",
    ] {
        let [ours, of_torch] = [&ours.1, &of_torch.1].map(|dump| &dump.get(name).values);
        assert_near(name, of_torch, ours, 1e-5);
    }
    assert_eq!(ours.0["text"], of_torch.0["text"]);
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
#[ignore = "needs libtorch: make check-torch"]
fn they_learn_as_our_plugins_do_and_are_resumed() {
    let (ours, tiny) = (Tiny::new(), of_torch());
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
