//! Runs that end early, go on, and go wrong.

use merv_tests::{Run, Tiny, TrainingRun, fixture, small_clip, tiny_with_one_encoder};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

/// Steps of the runs here: two epochs.
const STEPS: u64 = 8;

/// A short run of a stage with one encoder, that writes a checkpoint every other step.
fn short(tiny: &Tiny, stage: &str) -> TrainingRun {
    TrainingRun::new(stage)
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .set("epochs", 2)
        .set("save_every", 2)
        .set("learning_rate", 1e-2)
}

/// What an unbroken run ends with.
fn unbroken(tiny: &Tiny, stage: &str) -> (Value, Vec<f64>, Duration) {
    let run = short(tiny, stage);
    let started = Instant::now();
    run.run().finish().succeeded();
    let took = started.elapsed();
    assert_eq!(run.checkpoints(), [6, 8], "`keep = 2`");
    (run.digests(STEPS), run.curve("loss"), took)
}

/// Kills a run again and again at random moments until it is through, and checks that nothing shows.
fn survives(stage: &str, kills: u32) {
    let tiny = tiny_with_one_encoder();
    let (digests, losses, took) = unbroken(&tiny, stage);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut random = u64::from(seed.unwrap().subsec_nanos()) | 1;
    for kill in 0..kills {
        let run = short(&tiny, stage);
        // xorshift: which moments are hit need not be the same every time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Every other time while it computes; most of a short run is loading.
        let wait = took.mul_f64((random % 1000) as f64 / 1000.0);
        let step = (kill % 2 == 0).then_some(3 + random % 4);
        let metrics = run.out().join("metrics.jsonl");
        run.run().ended_when("KILL", |elapsed| match step {
            Some(step) => lines(&metrics) >= step,
            None => elapsed >= wait,
        });
        let before = run.checkpoints();
        let case = format!("kill {kill} at {step:?} or after {wait:?}, with {before:?}");
        let resumed = match run.out().join("config.toml").exists() {
            true => short_resumed(&run),
            false => run.run(),
        };
        resumed.finish().succeeded();
        assert_eq!(run.digests(STEPS), digests, "{case}");
        assert_eq!(run.curve("loss"), losses, "{case}");
    }
}

/// Lines of a file that may not be there yet.
fn lines(path: &Path) -> u64 {
    fs::read_to_string(path).map_or(0, |text| text.lines().count() as u64)
}

fn short_resumed(run: &TrainingRun) -> Run {
    run.run().arg("--resume")
}

#[test]
fn a_killed_run_ends_as_an_unbroken_one() {
    survives("finetune", 2);
}

#[test]
#[ignore = "takes minutes: `make test-long`"]
fn twenty_killed_runs_end_as_unbroken_ones() {
    survives("finetune", 10);
    survives("full-finetune", 10);
}

#[test]
fn a_signal_is_answered_with_a_checkpoint() {
    let tiny = tiny_with_one_encoder();
    let (digests, losses, _) = unbroken(&tiny, "align");
    for signal in ["TERM", "INT", "HUP"] {
        let run = short(&tiny, "align").set("save_every", 1000);
        let metrics = run.out().join("metrics.jsonl");
        let has_begun = |_| fs::metadata(&metrics).is_ok_and(|about| about.len() > 0);
        let finished = run.run().ended_when(signal, has_begun).succeeded();
        if run.checkpoints() != [STEPS] {
            assert!(
                finished.stderr.contains("go on with --resume"),
                "{finished}"
            );
        }
        short_resumed(&run).finish().succeeded();
        assert_eq!(run.digests(STEPS), digests, "{signal}");
        assert_eq!(run.curve("loss"), losses, "{signal}");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let tiny = tiny_with_one_encoder();
    let (digests, ..) = unbroken(&tiny, "align");
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let path = run.checkpoint(STEPS).join("mixer.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    // Also where only what went wrong is said.
    let finished = short_resumed(&run).arg("-q").finish().succeeded();
    for word in ["step 8 is not used", "mixer.safetensors is damaged"] {
        assert!(finished.stderr.contains(word), "{finished}");
    }
    assert_eq!(run.digests(STEPS), digests);
}

#[test]
fn a_damaged_registry_is_refused_and_written_anew() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let path = run.out().join("registry.toml");
    let whole = fs::read_to_string(&path).unwrap();
    let asked = || {
        let run = Run::new().arg("--registry").arg(&path);
        run.args(["generate", "--prompt", "What?", "--video"])
            .arg(small_clip())
            .finish()
    };
    asked().succeeded();
    fs::write(
        &path,
        whole.replacen("num_frames = 16", "num_frames = 8", 1),
    )
    .unwrap();
    let words = [
        "registry.toml",
        "checksum does not match",
        "--resume --out RUN",
    ];
    asked().failed(1, &words);
    run.resumed().arg("--dry-run").finish().succeeded();
    let resumed = run.resumed().arg("-q").finish().succeeded();
    assert!(resumed.stderr.contains("it is written anew"), "{resumed}");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    fs::remove_file(&path).unwrap();
    let resumed = run.resumed().finish().succeeded();
    assert!(resumed.stderr.contains("it is written anew"), "{resumed}");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    // Without its checksum it may be changed.
    let end = whole.rfind("# crc32").unwrap();
    fs::write(
        &path,
        whole[..end].replacen("num_frames = 16", "num_frames = 8", 1),
    )
    .unwrap();
    asked().failed(1, &["num_frames"]);
}

#[test]
fn a_damaged_checkpoint_is_not_to_be_fetched_again() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let path = run.checkpoint(STEPS).join("mixer.safetensors");
    let whole = fs::read(&path).unwrap();
    let ask = || {
        let ask = Run::new()
            .arg("--registry")
            .arg(run.out().join("registry.toml"));
        ask.args(["generate", "--prompt", "?", "--video"])
            .arg(small_clip())
            .finish()
    };
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, changed).unwrap();
    ask().failed(
        1,
        &["mixer.safetensors", "sha256", "train --resume --out RUN"],
    );
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    ask().failed(1, &["mixer.safetensors", "resume the run"]);
}

#[test]
fn what_is_gone_of_a_run_is_told() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let metrics = run.out().join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let cut: String = text
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&metrics, cut).unwrap();
    let resumed = run.resumed().arg("-q").finish().succeeded();
    let words = "metrics.jsonl: 5 of the 8 steps that were done have no line";
    assert!(resumed.stderr.contains(words), "{resumed}");
    fs::remove_file(&metrics).unwrap();
    let resumed = run.resumed().finish().succeeded();
    let words = "metrics.jsonl: 8 of the 8 steps that were done have no line";
    assert!(resumed.stderr.contains(words), "{resumed}");
    fs::remove_dir_all(run.out().join("checkpoints")).unwrap();
    let words = ["checkpoints", "none is there", "bring the folder back"];
    run.resumed().arg("--dry-run").finish().failed(1, &words);
    run.resumed().finish().failed(1, &words);
    assert!(!run.out().join("checkpoints").exists());
}

#[test]
fn a_file_with_the_name_of_a_checkpoint_is_refused_at_once() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let stray = run.out().join("checkpoints/step-00000098");
    fs::write(&stray, "notes").unwrap();
    let words = ["step-00000098", "no folder", "remove it"];
    for more in [&["--dry-run"][..], &["--set", "epochs=3"]] {
        run.resumed().args(more).finish().failed(1, &words);
    }
    fs::remove_file(&stray).unwrap();
    run.resumed()
        .args(["--set", "epochs=3"])
        .finish()
        .succeeded();
}

#[test]
fn a_full_disk_costs_no_checkpoint() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "finetune")
        .set("max_steps", 4)
        .set("save_every", 1);
    // No file may be longer than the mixer's, and the language model's is.
    let limited = run.run().after("trap '' XFSZ; ulimit -f 1500");
    limited.finish().failed(
        1,
        &[
            "llm.safetensors",
            "cannot be written",
            "are untouched",
            "--resume",
        ],
    );
    assert!(run.checkpoints().is_empty());
    let whole = short(&tiny, "finetune")
        .set("max_steps", 4)
        .set("save_every", 1);
    whole.run().finish().succeeded();
    short_resumed(&run).finish().succeeded();
    assert_eq!(run.digests(4), whole.digests(4));
    let left = fs::read_dir(run.out().join("checkpoints")).unwrap().count();
    assert_eq!(
        left,
        run.checkpoints().len(),
        "something half written is left"
    );
}

#[test]
fn what_cannot_begin_says_why_and_leaves_nothing_behind() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    short_resumed(&run)
        .finish()
        .failed(1, &["holds no run that could be resumed"]);
    // A folder that nobody can write to, not even root.
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
    let wrong = short(&tiny, "align").set("epoch", 1);
    wrong
        .run()
        .finish()
        .failed(2, &["--set epoch=1", "write `epochs`"]);
    fs::create_dir(run.out()).unwrap();
    fs::write(run.out().join("thesis.tex"), "").unwrap();
    run.run()
        .finish()
        .failed(1, &["thesis.tex", "which no run made"]);
}

#[test]
fn a_run_is_not_begun_twice_nor_gone_on_with_as_another() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align").set("max_steps", 1);
    run.run().finish().succeeded();
    run.run()
        .finish()
        .failed(1, &["holds a run already", "--resume"]);
    short_resumed(&run)
        .args(["--set", "seed=8", "--set", "weight_decay=0.5"])
        .finish()
        .failed(1, &["`seed`: 7, now 8", "`weight_decay`: 0.0, now 0.5"]);
}

/// The model that comes of it computes in what its registry says.
#[test]
fn a_precision_holds_for_the_run_and_not_for_its_model() {
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
fn broken_examples_are_named_and_too_many_stop_the_run() {
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
        "data.json, example 3 (`motion`) is left out",
        "gone.mp4",
        "data.json, example 8 is left out: message 1 is from `machine`",
        "2 of 8 examples are broken",
    ] {
        assert!(finished.stderr.contains(word), "no {word}: {finished}");
    }
    // Each is told of once, however often it comes.
    assert_eq!(finished.stderr.matches("(`motion`) is left out").count(), 1);
    let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&summary["broken_examples"], &summary["examples"]),
        (&2.into(), &8.into())
    );
    let strict = run(0.2);
    strict.run().finish().failed(
        1,
        &[
            "2 of 8 examples are broken",
            "max_bad_fraction = 0.2",
            "gone.mp4",
        ],
    );
}

#[test]
fn a_run_is_a_registry_and_the_next_stage_begins_from_it() {
    let tiny = tiny_with_one_encoder();
    let first = short(&tiny, "full-finetune").set("max_steps", 2);
    first.run().finish().succeeded();
    let next = short(&tiny, "align").set("max_steps", 1).arg("--from");
    let next = next.arg(first.out().display().to_string());
    // Step 0 has no learning rate, so that the loss alone tells what it began from.
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
    // The second trained the mixer alone: all else is the first one's.
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
    let told = |run: &TrainingRun| {
        let info = Run::new().arg("--registry").arg(run.out());
        let info = info.args(["info", "--json"]).finish().succeeded();
        let info: Value = serde_json::from_str(&info.stdout).unwrap();
        (info["id"].clone(), info["description"].clone())
    };
    assert_eq!(
        told(&run),
        ("run".into(), "lively after 2 steps of align".into())
    );
    let named = short(&tiny, "align")
        .set("max_steps", 1)
        .set("id", "shapes-2")
        .set("description", "for \"shapes\"");
    named.run().finish().succeeded();
    assert_eq!(told(&named), ("shapes-2".into(), "for \"shapes\"".into()));
    // The name stays where the folder gets another, and may be changed.
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
fn held_out_examples_choose_the_checkpoint() {
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

#[test]
fn a_dry_run_shows_the_plan_and_does_nothing() {
    let run = TrainingRun::new("finetune").set("global_batch", 2);
    let text = run.run().arg("--dry-run").finish().succeeded().stdout;
    for word in [
        "finetune of lively",
        "siglip-vit-b16-224px-all-no-cls     frozen",
        "mixer                               trained",
        "4 videos, 2 images, 2 texts",
        "16: 4 an epoch, 4 epochs",
    ] {
        assert!(text.contains(word), "no `{word}`: {text}");
    }
    let json = run.run().args(["--dry-run", "--json"]).finish().succeeded();
    let outline: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(outline["total_steps"], 16);
    assert_eq!(outline["visual_tokens"], 256);
    assert!(outline["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(!run.out().exists());
}
