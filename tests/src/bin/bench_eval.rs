//! `make bench-eval`: questions per second of an evaluation with eight questions per clip, compared with one question
//! at a time and nothing shared. It prints ratios with their spread, and fails if the answers differ.

use merv_host::{
    GenerateOptions, LoadOptions, VidLm, VideoOptions,
    eval::{EvalObserver, Failure, RunOptions, Strategy, Task, run, store::Completion},
    registry::Registry,
    video,
};
use serde_json::{Value, json};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Rounds, in each of which both are timed.
const ROUNDS: usize = 5;

/// The number of clips, and of questions about each.
const CLIPS: usize = 4;
const QUESTIONS: usize = 8;

/// The number of tokens per answer. Random weights do not end an answer themselves, and real answers are short.
const MAX_NEW_TOKENS: usize = 16;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The time window of a clip in the sample video.
fn window(clip: usize) -> [f64; 2] {
    [0.5 * clip as f64, 3.0 + 0.5 * clip as f64]
}

fn question(clip: usize, number: usize) -> String {
    const ASKED: [&str; QUESTIONS] = [
        "what is the animal doing?",
        "what colour is the grass?",
        "is it day or night?",
        "how many animals are there?",
        "does the camera move?",
        "what happens in the end?",
        "where is this?",
        "who is in the video?",
    ];
    format!("In part {clip}, {}", ASKED[number])
}

struct Silent;

impl EvalObserver for Silent {
    fn clip(&mut self, _: usize, _: usize, _: &str) {}
    fn failed(&mut self, failure: &Failure) {
        eprintln!("{failure}");
    }
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("eval_data");
    let clip = write_benchmark(&root, &data)?;
    let registry = root.join("tests/fixtures/lively/registry.toml");
    let described = Registry::load(&registry)?;
    let load = || VidLm::load_with(&registry, &LoadOptions::default(), &mut ());
    let model = load()?;
    let count = CLIPS * QUESTIONS;
    println!(
        "{}, {CLIPS} clips of 1280x720 with {QUESTIONS} questions each, {MAX_NEW_TOKENS} tokens per answer, {} threads",
        described.id,
        std::thread::available_parallelism()?
    );
    let mut ratios = Vec::new();
    let (mut alone_rates, mut shared_rates) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let started = Instant::now();
        let alone = one_at_a_time(&model, &clip)?;
        let alone_time = started.elapsed().as_secs_f64();
        let out = folder.path().join(round.to_string());
        // The model is loaded first, so that loading is not timed.
        let ready = load()?;
        let started = Instant::now();
        let shared = evaluation(&data, &out, &described, ready)?;
        let shared_time = started.elapsed().as_secs_f64();
        if alone != shared {
            return Err(format!("the answers differ:\n{alone:?}\n{shared:?}").into());
        }
        let rate = |time: f64| count as f64 / time;
        println!(
            "  round {round}: one at a time {:.2} questions/s, eval {:.2}, ratio {:.2}",
            rate(alone_time),
            rate(shared_time),
            alone_time / shared_time
        );
        ratios.push(alone_time / shared_time);
        alone_rates.push(rate(alone_time));
        shared_rates.push(rate(shared_time));
    }
    for (name, values) in [
        ("one at a time, questions/s", &mut alone_rates),
        ("eval, questions/s", &mut shared_rates),
        ("ratio", &mut ratios),
    ] {
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[0], values[values.len() - 1]);
        println!(
            "  {name}: {:.2} ({low:.2} to {high:.2})",
            values[values.len() / 2]
        );
    }
    println!("  all {count} answers are identical");
    Ok(())
}

/// Writes the benchmark and returns the path of its video.
fn write_benchmark(root: &Path, data: &Path) -> Result<PathBuf> {
    let folder = data.join("bench");
    fs::create_dir_all(folder.join("videos"))?;
    let clip = folder.join("videos/bunny.mp4");
    fs::copy(root.join("assets/bigbuckbunny.mp4"), &clip)?;
    let (mut questions, mut answers) = (Vec::new(), Vec::new());
    for c in 0..CLIPS {
        for q in 0..QUESTIONS {
            let id = format!("{c}_{q}");
            questions.push(json!({
                "question_id": id, "video_name": "bunny", "question": question(c, q),
                "time": window(c),
            }));
            answers.push(json!({"question_id": id, "answer": "a rabbit"}));
        }
    }
    fs::write(
        folder.join("test_q.json"),
        Value::from(questions).to_string(),
    )?;
    fs::write(folder.join("test_a.json"), Value::from(answers).to_string())?;
    Ok(clip)
}

fn one_at_a_time(model: &VidLm, clip: &Path) -> Result<Vec<String>> {
    let mut answers = Vec::new();
    for c in 0..CLIPS {
        for q in 0..QUESTIONS {
            let [start, end] = window(c);
            let mut options = GenerateOptions {
                video: VideoOptions {
                    start: Some(start),
                    end: Some(end),
                    ..VideoOptions::default()
                },
                ..GenerateOptions::default()
            };
            options.limits.max_new_tokens = MAX_NEW_TOKENS;
            answers.push(model.generate(clip, &question(c, q), &options)?.text);
        }
    }
    Ok(answers)
}

fn evaluation(data: &Path, out: &Path, registry: &Registry, model: VidLm) -> Result<Vec<String>> {
    let mut answers = RunOptions::default_answers();
    answers.limits.max_new_tokens = MAX_NEW_TOKENS;
    let options = RunOptions {
        task: Task::OpenEnded,
        strategy: Strategy::Letter,
        data_dir: data.to_owned(),
        benchmark: "bench".to_owned(),
        out: out.to_owned(),
        num_chunks: 1,
        chunk_idx: 0,
        answers,
        batch_size: 16,
        max_bad_fraction: 0.0,
        folder_fps: 3.0,
        limits: video::ReadLimits::default(),
        features: None,
    };
    let outcome = run(&options, registry, &mut Silent, || Ok(model))?;
    let Completion::Complete(merged) = outcome.completion else {
        return Err("some questions are not answered".into());
    };
    let text = |line: &merv_host::eval::predictions::Line| {
        line.fields["pred"].as_str().unwrap_or_default().to_owned()
    };
    Ok(merged.lines.iter().map(text).collect())
}
