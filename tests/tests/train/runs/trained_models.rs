//! The model that a run leaves.

use super::{STEPS, short};
use merv_tests::{Run, Tiny, TrainingRun, edit, fixture, read, small_clip, tiny_with_one_encoder};
use serde_json::Value;
use std::fs;

/// The trained model computes in the dtype of its registry.
#[test]
fn a_precision_applies_to_the_run_but_not_to_its_model() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align")
        .set("max_steps", 1)
        .set("precision", "f32")
        .arg("--precision")
        .arg("bf16");
    let plan = run.run().args(["--dry-run", "--json"]).finish().succeeded();
    run.run().finish().succeeded();
    let text = |file: &str| fs::read_to_string(run.out().join(file)).unwrap();
    assert!(text("config.toml").contains("precision = \"bf16\""));
    assert!(!text("registry.toml").contains("bf16"));
    let exact = short(&tiny, "align").set("max_steps", 1);
    let exact = exact
        .run()
        .args(["--dry-run", "--json"])
        .finish()
        .succeeded();
    let memory = |json: &str| serde_json::from_str::<Value>(json).unwrap()["memory_bytes"].clone();
    assert_eq!(memory(&plan.stdout), memory(&exact.stdout));
}

#[test]
fn a_run_can_be_used_as_a_registry_and_by_the_next_stage() {
    let tiny = tiny_with_one_encoder();
    let first = short(&tiny, "full-finetune").set("max_steps", 2);
    first.run().finish().succeeded();
    let next = short(&tiny, "align").set("max_steps", 1).arg("--from");
    let next = next.arg(first.out().display().to_string());
    // The learning rate of step 0 is zero, so the loss shows which weights the run started from.
    next.run().finish().succeeded();
    let untrained = short(&tiny, "align").set("max_steps", 1);
    untrained.run().finish().succeeded();
    assert_ne!(next.curve("loss"), untrained.curve("loss"));
    for run in [&first, &next] {
        let answer = Run::new()
            .arg("--registry")
            .arg(run.out())
            .args([
                "generate",
                "--max-new-tokens",
                "4",
                "--prompt",
                "What?",
                "--video",
            ])
            .arg(small_clip())
            .finish()
            .succeeded();
        assert!(!answer.stderr.contains("random"), "{answer}");
    }
    // The second run trained only the mixer. All other weights are the first run's.
    let text = fs::read_to_string(next.out().join("registry.toml")).unwrap();
    let llm = first
        .checkpoint(2)
        .join("llm.safetensors")
        .canonicalize()
        .unwrap();
    assert!(text.contains(llm.to_str().unwrap()), "{text}");
    assert!(
        text.contains("\"checkpoints/step-00000001/mixer.safetensors\""),
        "{text}"
    );
}

#[test]
fn a_trained_model_has_a_name_of_its_own() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align").set("max_steps", 2);
    run.run().finish().succeeded();
    let id_and_description = |run: &TrainingRun| {
        let info = Run::new().arg("--registry").arg(run.out());
        let info = info.args(["info", "--json"]).finish().succeeded();
        let info: Value = serde_json::from_str(&info.stdout).unwrap();
        (info["id"].clone(), info["description"].clone())
    };
    assert_eq!(
        id_and_description(&run),
        ("run".into(), "lively after 2 steps of align".into())
    );
    let named = short(&tiny, "align")
        .set("max_steps", 1)
        .set("id", "shapes-2")
        .set("description", "for \"shapes\"");
    named.run().finish().succeeded();
    assert_eq!(
        id_and_description(&named),
        ("shapes-2".into(), "for \"shapes\"".into())
    );
    // The name stays when the folder is renamed, and can be changed.
    let moved = run.out().with_file_name("moved");
    fs::rename(run.out(), &moved).unwrap();
    let resumed = |sets: &[&str]| {
        let resumed = Run::new().args(["--threads", "2", "train", "--resume", "--out"]);
        resumed.arg(&moved).args(sets).finish().succeeded();
        fs::read_to_string(moved.join("registry.toml")).unwrap()
    };
    assert!(resumed(&["--set", "max_steps=3"]).contains("id = \"run\""));
    let text = resumed(&["--set", "max_steps=4", "--set", "id=b"]);
    assert!(text.contains("id = \"b\""), "{text}");
}

#[test]
fn held_out_examples_select_the_checkpoint() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "finetune")
        .set("validation", fixture("training_runs/data.json").display())
        .set("save_every", 1)
        .set("keep", 1);
    run.run().finish().succeeded();
    let metrics = run.metrics();
    let loss = |line: &Value| line["validation_loss"].as_f64();
    let losses: Vec<f64> = metrics.iter().filter_map(loss).collect();
    assert_eq!(losses.len() as u64, STEPS);
    let best = (1u64..)
        .zip(&losses)
        .min_by(|a, b| a.1.total_cmp(b.1))
        .map(|(step, _)| step)
        .unwrap();
    let text = fs::read_to_string(run.out().join("registry.toml")).unwrap();
    assert!(text.contains(&format!("step-{best:08}")), "{best}: {text}");
    let mut kept = vec![best, STEPS];
    kept.dedup();
    assert_eq!(run.checkpoints(), kept);
}

/// The fusion `first` uses one encoder. PyTorch does not update parameters without a gradient, so weight decay does not
/// reach the other encoders and their projectors.
#[test]
fn what_the_fusion_does_not_use_stays_as_it_is() {
    let tiny = Tiny::new();
    let (old, new) = ("fusion = \"cross_attention_avg_lq\"", "fusion = \"first\"");
    tiny.replace("registry.toml", old, new);
    edit(&tiny.path("mixer.safetensors"), |tensors| {
        tensors.retain(|name, _| !name.starts_with("feature_fusion."));
    });
    let run = short(&tiny, "full-finetune")
        .set("max_steps", 3)
        .set("learning_rate", 1e-2)
        .set("weight_decay", 0.5);
    run.run().finish().succeeded();
    let (before, after) = (
        read(&tiny.path("mixer.safetensors")),
        read(&run.checkpoint(3).join("mixer.safetensors")),
    );
    for name in before.names() {
        let changed = before.get(name).values != after.get(name).values;
        assert_eq!(changed, name.starts_with("projectors.0."), "{name}");
    }
    let parts = run.digests(3);
    let steps = parts.as_array().unwrap().iter().map(|part| {
        let name = part["name"].as_str().unwrap().to_owned();
        (name, part["optimizer_steps"].as_u64().unwrap())
    });
    for (name, steps) in steps {
        let is_used = ["mixer", "llm", "encoder-languagebind-video-noclass"].contains(&&*name);
        assert_eq!(steps > 0, is_used, "{name}: {steps}");
    }
}
