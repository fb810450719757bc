//! Short training runs: start, interruption, damage and result.

mod damaged;
mod interrupted;
mod start;
mod trained_models;

use merv_tests::{Run, Tiny, TrainingRun};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// The number of steps of the runs: two epochs.
const STEPS: u64 = 8;

/// A short run of a stage with one encoder, with a checkpoint every other step.
fn short(tiny: &Tiny, stage: &str) -> TrainingRun {
    TrainingRun::new(stage)
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .set("epochs", 2)
        .set("save_every", 2)
        .set("learning_rate", 1e-2)
}

/// The digests, losses and duration of an uninterrupted run.
fn uninterrupted(tiny: &Tiny, stage: &str) -> (Value, Vec<f64>, Duration) {
    let run = short(tiny, stage);
    let started = Instant::now();
    run.run().finish().succeeded();
    let took = started.elapsed();
    assert_eq!(run.checkpoints(), [6, 8], "`keep = 2`");
    (run.digests(STEPS), run.curve("loss"), took)
}

/// The number of lines in a file, which may not exist yet.
fn lines(path: &Path) -> u64 {
    fs::read_to_string(path).map_or(0, |text| text.lines().count() as u64)
}

fn short_resumed(run: &TrainingRun) -> Run {
    run.run().arg("--resume")
}
