//! `make bench-train`: seconds per training step, alternating with PyTorch, and the share of that time spent waiting
//! for data. It prints ratios with their spread, and fails if a loss differs from PyTorch's.
//!
//! PyTorch (of `$MERV_PYTHON`, by default `python3`) gets the same model, examples, order and number of threads. Its
//! clips are decoded before the timing starts; `merv-host` decodes them while it trains.

use merv_host::{
    LoadOptions, Observer,
    synth::{Split, SynthOptions, synth},
    train::{
        Settings, StepMetrics, TrainObserver, TrainOptions, TrainingStage,
        data::{Batching, Index},
        train,
    },
};
use serde_json::{Value, json};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
    time::Instant,
};

/// Rounds, in each of which both implementations are timed.
const ROUNDS: usize = 3;

/// Steps per round, and the number of steps at its start that are not timed.
const STEPS: usize = 8;
const WARM_UP: usize = 2;

/// Examples per step.
const BATCH: usize = 8;

/// Clips of the data set: more than a round uses.
const CLIPS: usize = 48;

/// The tolerance of the losses.
const TOLERANCE: f64 = 1e-3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The measurements of one implementation in one round.
struct Turn {
    /// The time of each timed step.
    seconds: Vec<f64>,
    /// The loss of each step.
    losses: Vec<f64>,
    /// The share of the timed seconds that was spent waiting for data.
    data_wait: f64,
}

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let options = SynthOptions {
        clips: CLIPS,
        seed: 7,
        splits: vec![Split::Train],
        size: 96,
        threads,
        force: false,
    };
    synth(&data, &options, &mut |_, _| ())?;
    let python = std::env::var("MERV_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_torch = has_torch(&python);
    println!("the toy model, {BATCH} clips per step, {threads} threads");
    if !has_torch {
        println!(
            "PyTorch, or another package of tests/python/requirements.txt, is not installed for `{python}`"
        );
    }
    for stage in [TrainingStage::Finetune, TrainingStage::FullFinetune] {
        let settings = settings(stage, &data.join("train.json"))?;
        let job = folder.path().join("job.json");
        fs::write(&job, job_of(&settings, threads)?.to_string())?;
        println!("\n{stage}");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut ratios, mut waits) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let out = folder.path().join(format!("{stage}-{round}"));
            let mine = merv(&settings, out, threads)?;
            let time = mean(&mine.seconds);
            print!(
                "  round {round}: merv {time:.3} s per step, {:.1} % of it waiting for data",
                100.0 * mine.data_wait
            );
            ours.push(time);
            waits.push(100.0 * mine.data_wait);
            if has_torch {
                let other = torch(&python, &job)?;
                agree(&mine.losses, &other.losses)?;
                let other = mean(&other.seconds);
                print!(", PyTorch {other:.3} s, ratio {:.3}", time / other);
                theirs.push(other);
                ratios.push(time / other);
            }
            println!();
        }
        for (what, values) in [
            ("merv, seconds per step", &mut ours),
            ("PyTorch, seconds per step", &mut theirs),
            ("time relative to PyTorch", &mut ratios),
            ("waiting for data, %", &mut waits),
        ] {
            values.sort_by(f64::total_cmp);
            if let [low, .., high] = values[..] {
                println!(
                    "  {what}: {:.3} ({low:.3} to {high:.3})",
                    values[values.len() / 2]
                );
            }
        }
    }
    Ok(())
}

/// The settings of the recipe, for a few steps.
fn settings(stage: TrainingStage, data: &Path) -> Result<Settings> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sets = [
        format!("data={}", data.display()),
        format!("global_batch={BATCH}"),
        format!("device_batch={BATCH}"),
        format!("max_steps={STEPS}"),
        "save_every=1000000".to_owned(),
    ];
    let settings = root.join("tests/fixtures/training_runs/settings.toml");
    Ok(Settings::load(&settings, stage, &sets)?)
}

/// The job description for PyTorch.
fn job_of(settings: &Settings, threads: usize) -> Result<Value> {
    let index = Index::read(&settings.data, settings.stage.task())?;
    let batching = Batching {
        size: settings.global_batch,
        group_by_length: settings.group_by_length,
        seed: settings.seed,
    };
    let batches = (0..).flat_map(|epoch| batching.epoch(index.entries(), epoch));
    Ok(json!({
        "stage": settings.stage.name(),
        "data": settings.data,
        "order": batches.take(STEPS).collect::<Vec<_>>(),
        "threads": threads,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "max_length": settings.max_length,
    }))
}

/// Records when each step ends.
#[derive(Default)]
struct Stopwatch(Vec<(Instant, StepMetrics)>);

impl Observer for Stopwatch {}

impl TrainObserver for Stopwatch {
    fn step(&mut self, metrics: &StepMetrics) {
        self.0.push((Instant::now(), metrics.clone()));
    }
}

fn merv(settings: &Settings, out: PathBuf, threads: usize) -> Result<Turn> {
    let options = TrainOptions {
        load: LoadOptions {
            threads: Some(threads),
            ..LoadOptions::default()
        },
        out,
        resume: false,
    };
    let mut watch = Stopwatch::default();
    train(settings, &options, &AtomicBool::new(false), &mut watch)?;
    let steps = watch.0;
    let ends = steps[WARM_UP - 1..].windows(2);
    let seconds: Vec<f64> = ends
        .map(|two| (two[1].0 - two[0].0).as_secs_f64())
        .collect();
    let waited: f64 = steps[WARM_UP..]
        .iter()
        .map(|(_, step)| step.data_wait)
        .sum();
    Ok(Turn {
        data_wait: waited / seconds.iter().sum::<f64>(),
        seconds,
        losses: steps.iter().map(|(_, step)| step.loss).collect(),
    })
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/bench_train.py")
}

/// Whether everything that the script imports is installed.
fn has_torch(python: &str) -> bool {
    let output = Command::new(python).arg(script()).arg("--help").output();
    output.is_ok_and(|output| output.status.success())
}

fn torch(python: &str, job: &Path) -> Result<Turn> {
    let output = Command::new(python)
        .arg(script())
        .arg("--job")
        .arg(job)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let numbers = |key: &str| -> Result<Vec<f64>> {
        let numbers = report[key].as_array().into_iter().flatten();
        let numbers = numbers.map(|number| number.as_f64().ok_or("not a number"));
        Ok(numbers.collect::<std::result::Result<_, _>>()?)
    };
    Ok(Turn {
        seconds: numbers("seconds")?.split_off(WARM_UP),
        losses: numbers("loss")?,
        data_wait: 0.0,
    })
}

/// Fails if the losses differ: the times would not be comparable.
fn agree(ours: &[f64], theirs: &[f64]) -> Result<()> {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE;
    if ours.len() == STEPS && theirs.len() == STEPS && ours.iter().zip(theirs).all(near) {
        return Ok(());
    }
    Err(format!("the losses differ:\n{ours:?}\nPyTorch's:\n{theirs:?}").into())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
