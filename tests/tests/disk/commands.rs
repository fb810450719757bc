//! The commands that write files. Each has its own inputs, folders to write into, and a result that is always the same
//! when nothing disturbs the run.

use merv_tests::{
    Benchmark, JudgeServer, Run, TrainingRun, fixture, sha256, small_clip, tiny_with_one_encoder,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

type StartRun = Box<dyn Fn(&Path) -> Run>;

/// The result of a run as lines of text.
pub type Result = Vec<String>;

/// A command that writes files.
pub struct Command {
    /// The name in messages of failing tests.
    pub name: &'static str,
    folder: Arc<TempDir>,
    run: StartRun,
    again: StartRun,
    result: Box<dyn Fn(&Path) -> Result>,
    /// The lock file that refuses a second process.
    pub lock: Option<&'static str>,
}

impl Command {
    fn new(name: &'static str, run: StartRun, again: StartRun) -> Self {
        Self {
            name,
            folder: Arc::new(TempDir::new().unwrap()),
            run,
            again,
            result: Box::new(files),
            lock: None,
        }
    }

    fn lock(mut self, file: &'static str) -> Self {
        self.lock = Some(file);
        self
    }

    fn result(mut self, result: impl Fn(&Path) -> Result + 'static) -> Self {
        self.result = Box::new(result);
        self
    }

    /// The path of a folder with this name to write into.
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The first run that writes into `place`.
    pub fn run(&self, place: &Path) -> Run {
        fs::create_dir_all(place).unwrap();
        (self.run)(place)
    }

    /// The run after a disturbed one.
    pub fn again(&self, place: &Path) -> Run {
        (self.again)(place)
    }

    /// The result of the runs that wrote into `place`.
    pub fn outcome(&self, place: &Path) -> Result {
        (self.result)(place)
    }

    /// The result of an undisturbed run.
    pub fn undisturbed(&self) -> Result {
        let place = self.place("undisturbed");
        self.run(&place).finish().succeeded();
        self.outcome(&place)
    }
}

/// All visible files below a folder with their digests, sorted.
pub fn files(place: &Path) -> Result {
    let mut found = Vec::new();
    for path in all_files(place) {
        let name = path.strip_prefix(place).unwrap();
        let hidden = name
            .iter()
            .any(|part| part.to_string_lossy().starts_with('.'));
        if !hidden {
            found.push(format!(
                "{} {}",
                name.display(),
                sha256(&fs::read(&path).unwrap())
            ));
        }
    }
    found
}

/// The paths of all files below a folder, sorted.
pub fn all_files(place: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(all_files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

pub fn synth() -> Command {
    let run = |place: &Path| {
        let run = Run::new().args(["synth", "--clips", "6", "--size", "32", "--out"]);
        run.arg(place)
    };
    let again = move |place: &Path| run(place).arg("--force");
    Command::new("synth", Box::new(run), Box::new(again)).lock(".lock")
}

pub fn dump() -> Command {
    let run = |place: &Path| {
        let run = Run::new()
            .arg("--registry")
            .arg(fixture("lively/registry.toml"));
        let run = run.args([
            "generate",
            "--max-new-tokens",
            "1",
            "--prompt",
            "x",
            "--video",
        ]);
        let run = run.arg(small_clip()).arg("--dump");
        run.arg(place.join("dump.safetensors"))
    };
    Command::new("generate --dump", Box::new(run), Box::new(run))
}

pub fn convert() -> Command {
    let run = |place: &Path| {
        let run = Run::new()
            .arg("convert")
            .arg(fixture("checkpoint/merv.zip.pt"));
        run.arg("--out").arg(place.join("made"))
    };
    let again = move |place: &Path| run(place).arg("--force");
    Command::new("convert", Box::new(run), Box::new(again)).lock(".made.lock")
}

pub fn encode() -> Command {
    let run = |place: &Path| {
        let run = Run::new()
            .arg("--registry")
            .arg(fixture("lively/registry.toml"));
        let run = run.args(["encode", "--json", "--video"]).arg(small_clip());
        let run = run.arg("--video").arg(fixture("video/motion.gif"));
        run.arg("--out").arg(place.join("features"))
    };
    let result = move |place: &Path| {
        let report = run(place).finish().succeeded().stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        let counts = ["cached", "encoded", "features"].map(|key| format!("{key} {}", report[key]));
        counts.to_vec()
    };
    Command::new("encode", Box::new(run), Box::new(run)).result(result)
}

pub fn eval() -> Command {
    let toy = Arc::new(Benchmark::open_ended(4));
    let run = move |place: &Path| {
        let out = place.join("out").display().to_string();
        let run = toy.run_into("open-ended", &out);
        run.args(["--max-new-tokens", "2", "--batch-size", "2"])
    };
    let again = run.clone();
    let result = |place: &Path| files(&place.join("out"));
    let lock = "out/.toy_pred_1_0.jsonl.lock";
    Command::new("eval", Box::new(run), Box::new(again))
        .result(result)
        .lock(lock)
}

pub fn judge() -> Command {
    let server = Arc::new(JudgeServer::new());
    let run = move |place: &Path| {
        let predictions = place.join("toy_pred_merge.jsonl");
        let line = |id: u32| {
            let about = format!("v{id}");
            json!({"question_id": id, "video_name": about, "question": "what is it?", "answer": "dog", "pred": "dog"})
        };
        let lines: String = (0..4).map(|id| line(id).to_string() + "\n").collect();
        fs::write(&predictions, lines).unwrap();
        Run::new()
            .env("OPENAI_BASE_URL", server.base_url())
            .env("OPENAI_API_KEY", "sk-right")
            .args([
                "eval",
                "judge",
                "--retry-delay",
                "0.01",
                "--concurrency",
                "1",
            ])
            .arg(predictions)
    };
    let again = run.clone();
    // The order of the verdicts varies.
    let result = |place: &Path| {
        let mut all = files(place);
        all.retain(|file| !file.starts_with("toy_gpt.jsonl"));
        all
    };
    Command::new("eval judge", Box::new(run), Box::new(again))
        .result(result)
        .lock(".toy_gpt.jsonl.lock")
}

pub fn train() -> Command {
    let tiny = Arc::new(tiny_with_one_encoder());
    let run = move |place: &Path| {
        let registry = tiny.registry().display().to_string();
        let run = TrainingRun::new("align").arg("--registry").arg(registry);
        let run = run.set("max_steps", 3).set("save_every", 1).set("keep", 9);
        run.into_folder(&place.join("run"))
    };
    let first = run.clone();
    let again = move |place: &Path| match place.join("run/config.toml").exists() {
        true => {
            let run = Run::new().args(["--threads", "2", "train", "--resume", "--out"]);
            run.arg(place.join("run"))
        }
        false => first(place),
    };
    let result = |place: &Path| {
        let weights = place.join("run/checkpoints/step-00000003/mixer.safetensors");
        let metrics = fs::read_to_string(place.join("run/metrics.jsonl")).unwrap();
        let lines = metrics
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let losses = lines.map(|line| format!("{} {}", line["step"], line["loss"]));
        losses
            .chain([sha256(&fs::read(weights).unwrap())])
            .collect()
    };
    Command::new("train", Box::new(run), Box::new(again))
        .result(result)
        .lock("run/.lock")
}

pub fn plot() -> Command {
    let run = |place: &Path| {
        let line = |step: u32| json!({"step": step, "loss": 3.0 / f64::from(step + 1)}).to_string();
        let lines: String = (0..20).map(|step| line(step) + "\n").collect();
        fs::write(place.join("metrics.jsonl"), lines).unwrap();
        Run::new().arg("plot").arg(place)
    };
    // The title is the name of the folder.
    let result = |place: &Path| {
        let svg = fs::read_to_string(place.join("curves.svg")).unwrap();
        let name = place.file_name().unwrap().to_str().unwrap();
        let png = fs::read(place.join("curves.png")).unwrap();
        assert!(png.ends_with(b"IEND\xaeB`\x82"));
        vec![svg.replace(name, "NAME")]
    };
    Command::new("plot", Box::new(run), Box::new(run)).result(result)
}

/// All commands except downloads, which `tests/hub` tests with a local hub.
pub fn all() -> Vec<Command> {
    vec![
        synth(),
        dump(),
        convert(),
        encode(),
        eval(),
        judge(),
        train(),
        plot(),
    ]
}
