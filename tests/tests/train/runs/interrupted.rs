//! Runs that are killed, interrupted by a signal, or stopped by a full disk.

use super::{STEPS, lines, short, short_resumed, uninterrupted};
use merv_host::{
    Observer,
    train::{Settings, StepMetrics, TrainObserver, TrainOptions, TrainingStage, train},
};
use merv_tests::{fixture, tiny_options, tiny_with_one_encoder};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

/// Kills runs at random moments, resumes each, and checks that the result is that of an uninterrupted run.
fn check_kills(stage: &str, kills: u32) {
    let tiny = tiny_with_one_encoder();
    let (digests, losses, took) = uninterrupted(&tiny, stage);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut random = u64::from(seed.unwrap().subsec_nanos()) | 1;
    for kill in 0..kills {
        let run = short(&tiny, stage);
        // xorshift. The moments may differ from run to run of the test.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Every other kill is timed by steps, because a short run spends most of its time loading.
        let wait = took.mul_f64((random % 1000) as f64 / 1000.0);
        let step = (kill % 2 == 0).then_some(3 + random % 4);
        let metrics = run.out().join("metrics.jsonl");
        run.run().signal_when("KILL", |elapsed| match step {
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

#[test]
fn a_killed_run_gives_the_uninterrupted_result() {
    check_kills("finetune", 2);
}

#[test]
#[ignore = "takes minutes: `make test-long`"]
fn twenty_killed_runs_give_the_uninterrupted_result() {
    check_kills("finetune", 10);
    check_kills("full-finetune", 10);
}

#[test]
fn a_signal_ends_the_run_with_a_checkpoint() {
    let tiny = tiny_with_one_encoder();
    let (digests, losses, _) = uninterrupted(&tiny, "align");
    for signal in ["TERM", "INT", "HUP"] {
        let run = short(&tiny, "align").set("save_every", 1000);
        let metrics = run.out().join("metrics.jsonl");
        let has_begun = |_| fs::metadata(&metrics).is_ok_and(|about| about.len() > 0);
        let finished = run.run().signal_when(signal, has_begun).succeeded();
        if run.checkpoints() != [STEPS] {
            assert!(
                finished.stderr.contains("resume with --resume"),
                "{finished}"
            );
        }
        short_resumed(&run).finish().succeeded();
        assert_eq!(run.digests(STEPS), digests, "{signal}");
        assert_eq!(run.curve("loss"), losses, "{signal}");
    }
}

#[test]
fn a_full_disk_does_not_damage_checkpoints() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "finetune")
        .set("max_steps", 4)
        .set("save_every", 1);
    // The limit is between the sizes of the mixer's file and the language model's.
    let limited = run.run().after_shell("trap '' XFSZ; ulimit -f 1500");
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
    assert_eq!(left, run.checkpoints().len(), "a partial file remains");
}

/// Asks the run to stop when a step is complete.
struct StopAfter<'s> {
    step: u64,
    stop: &'s AtomicBool,
}

impl Observer for StopAfter<'_> {}

impl TrainObserver for StopAfter<'_> {
    fn step(&mut self, metrics: &StepMetrics) {
        let due = metrics.step == self.step;
        self.stop.fetch_or(due, Ordering::Relaxed);
    }
}

#[test]
fn a_stop_after_the_last_step_is_not_an_interruption() {
    let file = fixture("training_runs/settings.toml");
    let sets = ["max_steps=2", "global_batch=3", "device_batch=3"].map(str::to_owned);
    let settings = Settings::load(&file, TrainingStage::Align, &sets).unwrap();
    for (step, stopped) in [(1, true), (2, false)] {
        let folder = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let options = TrainOptions {
            load: tiny_options(),
            out: folder.path().join("run"),
            resume: false,
        };
        let mut observer = StopAfter { step, stop: &stop };
        let summary = train(&settings, &options, &stop, &mut observer).unwrap();
        assert_eq!(
            (summary.steps, summary.total_steps, summary.stopped),
            (step, 2, stopped)
        );
    }
}
