//! Runs that cannot start, and the plan of one that can.

use super::{short, short_resumed};
use merv_tests::{Run, TrainingRun, fixture, tiny_with_one_encoder};
use serde_json::Value;
use std::fs;

#[test]
fn runs_that_cannot_start_are_refused_and_leave_nothing() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    short_resumed(&run)
        .finish()
        .failed(1, &["does not contain a run to resume"]);
    // Not even root can create this folder.
    let nowhere = Run::new()
        .args([
            "train",
            "--config",
            "configs/merv-tiny.toml",
            "--stage",
            "align",
        ])
        .args(["--set", "data=tests/fixtures/training_runs/data.json"])
        .args(["--out", "/proc/merv-run"]);
    nowhere
        .finish()
        .failed(1, &["/proc/merv-run", "cannot be written"]);
    let missing = short(&tiny, "align").set("data", "nowhere.json");
    missing
        .run()
        .finish()
        .failed(1, &["nowhere.json", "data set"]);
    assert!(!missing.out().exists());
    let half = short(&tiny, "align").set("precision", "f16");
    half.run()
        .finish()
        .failed(1, &["in f16", "do: correct `precision`"]);
    assert!(!half.out().exists());
    let wrong = short(&tiny, "align").set("epoch", 1);
    wrong
        .run()
        .finish()
        .failed(2, &["--set epoch=1", "write `epochs`"]);
    fs::create_dir(run.out()).unwrap();
    fs::write(run.out().join("thesis.tex"), "").unwrap();
    run.run()
        .finish()
        .failed(1, &["thesis.tex", "does not belong to a run"]);
}

#[test]
fn a_run_is_not_started_twice_and_not_resumed_with_other_settings() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align").set("max_steps", 1);
    run.run().finish().succeeded();
    run.run()
        .finish()
        .failed(1, &["already contains a run", "--resume"]);
    short_resumed(&run)
        .args(["--set", "seed=8", "--set", "weight_decay=0.5"])
        .finish()
        .failed(1, &["`seed`: 7, now 8", "`weight_decay`: 0.0, now 0.5"]);
}

#[test]
fn broken_examples_are_reported_and_too_many_stop_the_run() {
    let tiny = tiny_with_one_encoder();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.json");
    let text = fs::read_to_string(fixture("training_runs/data.json")).unwrap();
    let text = text.replace("../video/vfr.mp4", "gone.mp4").replace(
        "\"conversations\": [\n    {\"from\": \"human\", \"value\": \"Count",
        "\"conversations\": [\n    {\"from\": \"machine\", \"value\": \"Count",
    );
    fs::write(&data, text).unwrap();
    let run = |fraction: f64| {
        short(&tiny, "finetune")
            .set("data", data.display())
            .set("media", fixture("training_runs").display())
            .set("max_bad_fraction", fraction)
    };
    let patient = run(0.25);
    let finished = patient.run().arg("--json").finish().succeeded();
    for word in [
        "data.json, example 3 (`motion`) is skipped",
        "gone.mp4",
        "data.json, example 8 is skipped: message 1 is from `machine`",
        "broken examples that were skipped: 2 of 8",
    ] {
        assert!(
            finished.stderr.contains(word),
            "`{word}` is not in: {finished}"
        );
    }
    // Each is reported once, although it occurs in every epoch.
    assert_eq!(finished.stderr.matches("(`motion`) is skipped").count(), 1);
    let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&summary["broken_examples"], &summary["examples"]),
        (&2.into(), &8.into())
    );
    let strict = run(0.2);
    strict.run().finish().failed(
        1,
        &[
            "broken examples: 2 of 8",
            "max_bad_fraction = 0.2",
            "gone.mp4",
        ],
    );
}

/// A run begins with its first step, not with its first checkpoint.
#[test]
fn a_folder_with_a_completed_step_is_not_overwritten() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align").set("max_steps", 1);
    run.run().finish().succeeded();
    fs::remove_dir_all(run.out().join("checkpoints")).unwrap();
    fs::remove_file(run.out().join("registry.toml")).unwrap();
    let plan = || run.run().arg("--dry-run").finish();
    plan().failed(1, &["already contains a run", "--resume"]);
    fs::write(run.out().join("metrics.jsonl"), "").unwrap();
    plan().succeeded();
}

#[test]
fn a_dry_run_shows_the_plan_and_does_nothing() {
    let run = TrainingRun::new("finetune").set("global_batch", 2);
    let text = run.run().arg("--dry-run").finish().succeeded().stdout;
    for word in [
        "finetune of lively",
        "siglip-vit-b16-224px-all-no-cls     frozen",
        "mixer                               trained",
        "4 videos, 2 images, 2 texts",
        "16: 4 per epoch, 4 epochs",
    ] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    let json = run.run().args(["--dry-run", "--json"]).finish().succeeded();
    let outline: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(outline["total_steps"], 16);
    assert_eq!(outline["visual_tokens"], 256);
    assert!(outline["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(!run.out().exists());
    // The files are in single precision, so that weights take the same whether they are trained or used as they are
    // stored. A file may contain a few more numbers than parameters.
    let weights = |stage: &str| {
        let json = TrainingRun::new(stage)
            .run()
            .args(["--dry-run", "--json"])
            .finish()
            .succeeded()
            .stdout;
        let outline: Value = serde_json::from_str(&json).unwrap();
        let number = |value: &Value| value.as_u64().unwrap();
        let parameters =
            number(&outline["trained_parameters"]) + number(&outline["frozen_parameters"]);
        (number(&outline["memory"]["weights"]), 4 * parameters)
    };
    let (all_trained, expected) = weights("full-finetune");
    assert_eq!(all_trained, expected);
    for stage in ["align", "finetune"] {
        let (stored, expected) = weights(stage);
        assert!(
            (expected..expected + 1000).contains(&stored),
            "{stage}: {stored}"
        );
    }
}
