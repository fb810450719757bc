//! The commands that write files, each with inputs of its own, a folder to write into, and a result that is the
//! same whenever it was not disturbed.

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

type Running = Box<dyn Fn(&Path) -> Run>;

/// What came of a run, in lines.
pub type Result = Vec<String>;

/// A command, and what it writes into.
pub struct Command {
    /// What the messages of failing tests call it.
    pub name: &'static str,
    folder: Arc<TempDir>,
    run: Running,
    again: Running,
    result: Box<dyn Fn(&Path) -> Result>,
    /// The lock file that a second process would meet.
    pub lock: Option<&'static str>,
}

impl Command {
    fn new(name: &'static str, run: Running, again: Running) -> Self {
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

    /// A folder of this name to write into.
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The first run into a folder.
    pub fn run(&self, place: &Path) -> Run {
        fs::create_dir_all(place).unwrap();
        (self.run)(place)
    }

    /// The run after one that was disturbed.
    pub fn again(&self, place: &Path) -> Run {
        (self.again)(place)
    }

    /// What came of the runs into a folder.
    pub fn outcome(&self, place: &Path) -> Result {
        (self.result)(place)
    }

    /// What comes of a run that nothing disturbs.
    pub fn undisturbed(&self) -> Result {
        let place = self.place("undisturbed");
        self.run(&place).finish().succeeded();
        self.outcome(&place)
    }
}

/// All files below a folder but hidden ones, with their digests, sorted.
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
        let told = ["cached", "encoded", "features"].map(|key| format!("{key} {}", report[key]));
        told.to_vec()
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
    // Verdicts come in any order.
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
    // Its title is the folder's name.
    let result = |place: &Path| {
        let svg = fs::read_to_string(place.join("curves.svg")).unwrap();
        let name = place.file_name().unwrap().to_str().unwrap();
        let png = fs::read(place.join("curves.png")).unwrap();
        assert!(png.ends_with(b"IEND\xaeB`\x82"));
        vec![svg.replace(name, "NAME")]
    };
    Command::new("plot", Box::new(run), Box::new(run)).result(result)
}

/// All of them. Downloads have tests of their own, with a hub: `tests/hub`.
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
