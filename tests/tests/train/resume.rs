//! `train --resume`: from the folder of the run alone, with repeated arguments, and with more steps than before.

use merv_host::train::Schedule;
use merv_tests::{Finished, Run, Tiny, TrainingRun, tiny_with_one_encoder};
use serde_json::Value;
use std::fs;

/// A run of `steps` steps with one encoder.
fn run_of(tiny: &Tiny, steps: u64) -> TrainingRun {
    TrainingRun::new("align")
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .set("epochs", 9)
        .set("max_steps", steps)
        .set("learning_rate", 1e-2)
}

/// The text of `metrics.jsonl`.
fn metrics(run: &TrainingRun) -> String {
    fs::read_to_string(run.out().join("metrics.jsonl")).unwrap_or_default()
}

/// Resumes a run with a new number of steps.
fn lengthened(run: &TrainingRun, steps: u64) -> Run {
    let set = format!("max_steps={steps}");
    run.resumed().args(["--set", &set])
}

/// Ends a run after this many steps.
fn interrupted(run: &TrainingRun, command: Run, steps: usize) -> Finished {
    let command = command.signal_when("INT", |_| metrics(run).lines().count() >= steps);
    command.succeeded()
}

#[test]
fn a_run_is_resumed_from_its_folder_alone() {
    let tiny = tiny_with_one_encoder();
    let unbroken = run_of(&tiny, 12);
    unbroken.run().finish().succeeded();
    let run = run_of(&tiny, 12);
    let finished = interrupted(&run, run.run(), 2);
    let advice = format!("resume with --resume --out {}", run.out().display());
    assert!(finished.stderr.contains(&advice), "{finished}");
    assert!(run.checkpoints() < vec![12]);
    // The run has its own copy of the registry.
    fs::rename(tiny.registry(), tiny.path("elsewhere.toml")).unwrap();
    let plan = run.resumed().args(["--dry-run", "--json"]).finish();
    let plan: Value = serde_json::from_str(&plan.succeeded().stdout).unwrap();
    assert_eq!(plan["total_steps"], 12);
    run.resumed().finish().succeeded();
    assert_eq!(run.digests(12), unbroken.digests(12));
    assert_eq!(run.curve("loss"), unbroken.curve("loss"));
    // All steps are done.
    let before = metrics(&run);
    run.resumed().finish().succeeded();
    assert_eq!(metrics(&run), before);
}

#[test]
fn repeated_arguments_must_match() {
    let tiny = tiny_with_one_encoder();
    let run = run_of(&tiny, 1);
    run.run().finish().succeeded();
    run.run().arg("--resume").finish().succeeded();
    run.resumed()
        .args(["--stage", "align", "--set", "seed=7", "--set", "workers=1"])
        .finish()
        .succeeded();
    let refused = [
        (["--set", "seed=8"], "`seed`: 7, now 8"),
        (["--set", "max_length=9"], "`max_length`: 256, now 9"),
        (
            ["--stage", "finetune"],
            "the stage: `align`, now `finetune`",
        ),
        (["--registry", "merv-tiny"], "registry/merv-tiny.toml\""),
        (["--precision", "f32"], "`precision`: nothing, now \"f32\""),
    ];
    for (given, words) in refused {
        for more in [&[][..], &["--dry-run"]] {
            let command = run.resumed().args(given).args(more);
            command
                .finish()
                .failed(1, &["started with other settings", words]);
        }
    }
    // Without an earlier run, all arguments are required.
    let begun = Run::new().args(["train", "--out"]).arg(run.out());
    begun.finish().failed(2, &["--config", "--stage"]);
    let nowhere = Run::new().args(["train", "--resume"]);
    nowhere.finish().failed(2, &["--out"]);
}

#[test]
fn a_finished_run_can_be_extended() {
    let tiny = tiny_with_one_encoder();
    let run = run_of(&tiny, 4);
    run.run().finish().succeeded();
    let before = metrics(&run);
    let finished = lengthened(&run, 8).finish().succeeded();
    let notice =
        "the run has 8 steps instead of 4: from step 5 on, the learning rate is that of a run of 8";
    assert!(finished.stderr.contains(notice), "{finished}");
    // The finished steps do not change.
    let after = metrics(&run);
    assert!(after.starts_with(&before), "{after}");
    let steps = run.curve("step");
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let (short, long) = (Schedule::new(1e-2, 0.03, 4), Schedule::new(1e-2, 0.03, 8));
    let rates: Vec<f64> = (0..8)
        .map(|step| if step < 4 { short } else { long }.rate(step))
        .collect();
    assert_eq!(run.curve("learning_rate"), rates);
    assert!(rates[4] > rates[3], "the learning rate rises again");
    // The run keeps the new length.
    let finished = run.resumed().finish().succeeded();
    assert!(!finished.stderr.contains("instead of"), "{finished}");
    assert_eq!(metrics(&run), after);

    // An interrupted run gives the same result.
    let broken = run_of(&tiny, 4);
    broken.run().finish().succeeded();
    interrupted(&broken, lengthened(&broken, 8), 5);
    broken.resumed().finish().succeeded();
    assert_eq!(broken.digests(8), run.digests(8));
    assert_eq!(broken.curve("loss"), run.curve("loss"));
}

#[test]
fn an_ineffective_length_is_reported_and_a_shorter_one_refused() {
    let tiny = tiny_with_one_encoder();
    let run = run_of(&tiny, 2);
    run.run().finish().succeeded();
    let config = || fs::read_to_string(run.out().join("config.toml")).unwrap();
    let before = config();
    for more in [&["--dry-run"][..], &[]] {
        let words = ["has completed 2 steps", "end it after 1", "raise them"];
        lengthened(&run, 1).args(more).finish().failed(1, &words);
    }
    assert_eq!(config(), before);
    let more = run.resumed().args(["--set", "epochs=10"]).finish();
    let more = more.succeeded();
    assert!(more.stderr.contains("the run still has 2 steps"), "{more}");
    assert_eq!(run.curve("step"), [1.0, 2.0]);
}

/// Both the dry run and the run itself are refused.
#[track_caller]
fn refused(run: &TrainingRun, words: &[&str]) {
    for more in [&["--dry-run"][..], &["--set", "max_steps=4"]] {
        run.resumed().args(more).finish().failed(1, words);
    }
}

#[test]
fn a_dry_run_refuses_what_the_resumed_run_refuses() {
    let tiny = tiny_with_one_encoder();
    let run = run_of(&tiny, 2);
    run.run().finish().succeeded();
    let aside = run.out().join("aside");
    for name in ["metrics.jsonl", "registry.toml", "tensorboard"] {
        let path = run.out().join(name);
        fs::rename(&path, &aside).unwrap();
        let expected = if name == "tensorboard" {
            fs::write(&path, "").unwrap();
            "expected: a folder"
        } else {
            fs::create_dir(&path).unwrap();
            "expected: a file"
        };
        refused(&run, &[name, expected]);
        if name == "tensorboard" {
            fs::remove_file(&path).unwrap();
        } else {
            fs::remove_dir(&path).unwrap();
        }
        fs::rename(&aside, &path).unwrap();
    }
    run.resumed().arg("--dry-run").finish().succeeded();
    let weights = run.checkpoint(2).join("mixer.safetensors");
    let whole = fs::read(&weights).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&weights, damaged).unwrap();
    refused(&run, &["none of the 1 checkpoint", "can be used"]);
    fs::write(&weights, whole).unwrap();
    fs::write(run.out().join("config.toml"), "").unwrap();
    refused(
        &run,
        &[
            "config.toml",
            "the settings",
            "restore the file from a copy",
        ],
    );
}

#[test]
fn a_registry_is_the_same_by_its_name_and_by_its_path() {
    let path = merv_tests::root().join("registry/merv-tiny.toml");
    let path = path.display().to_string();
    for (begun, resumed) in [("merv-tiny", &*path), (&*path, "merv-tiny")] {
        let set = format!("registry={begun}");
        let run = TrainingRun::new("align")
            .set("max_steps", 2)
            .arg("--set")
            .arg(set);
        run.run().finish().succeeded();
        let again = run.resumed().args(["--registry", resumed, "--dry-run"]);
        again.finish().succeeded();
    }
}
