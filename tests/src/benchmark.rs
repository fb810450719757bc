//! Small benchmarks in the layout of the original evaluation code.

use super::{Run, artifacts, fixture};
use merv_host::{LoadOptions, VidLm};
use serde_json::{Map, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A benchmark named `toy` in a temporary folder, with a folder for results.
pub struct Benchmark {
    folder: Arc<TempDir>,
    questions: Vec<Value>,
    answers: Vec<Value>,
}

impl Default for Benchmark {
    fn default() -> Self {
        Self::new()
    }
}

impl Benchmark {
    /// A benchmark without questions, with the videos `a` (a file), `b` (a GIF) and `c` (a folder of images).
    ///
    /// # Panics
    ///
    /// If the files cannot be written.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let videos = folder.path().join("eval_data/toy/videos");
        fs::create_dir_all(videos.join("c")).expect("the folder can be created");
        for (from, to) in [("bframes.mp4", "a.mp4"), ("motion.gif", "b.gif")] {
            fs::copy(fixture("video").join(from), videos.join(to))
                .expect("the videos can be copied");
        }
        for entry in fs::read_dir(fixture("video/frames")).expect("the fixture has frames") {
            let from = entry.expect("the frames can be listed").path();
            let name = from.file_name().expect("a file has a name");
            fs::copy(&from, videos.join("c").join(name)).expect("the frames can be copied");
        }
        Self {
            folder: Arc::new(folder),
            questions: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Open-ended questions: `per_video` about each of `a`, `b` and `c`, in rotation.
    pub fn open_ended(per_video: usize) -> Self {
        let mut toy = Self::new();
        for i in 0..3 * per_video {
            let video = ["a", "b", "c"][i % 3];
            let question = format!("what is thing {i} doing?");
            toy.add(
                json!({"video_name": video, "question_id": i.to_string(), "question": question}),
                json!({"answer": "show"}),
            );
        }
        toy.write();
        toy
    }

    /// The same with multiple-choice questions of three options.
    pub fn multiple_choice(per_video: usize) -> Self {
        let mut toy = Self::new();
        for i in 0..3 * per_video {
            toy.add(
                json!({
                    "video_name": (["a", "b", "c"][i % 3]), "question_id": format!("q_{i}"),
                    "question": format!("Which is number {i}?"), "num_option": 3,
                    "options": ["red", "green", "blue"],
                    "kind": if i % 2 == 0 { "even" } else { "odd" },
                }),
                json!({"answer_id": i % 3, "answer": (["red", "green", "blue"][i % 3])}),
            );
        }
        toy.write();
        toy
    }

    /// Adds a question and its answer, which gets the same id.
    pub fn add(&mut self, question: Value, mut answer: Value) {
        answer["question_id"] = question["question_id"].clone();
        self.questions.push(question);
        self.answers.push(answer);
    }

    /// Writes the files of questions and answers.
    ///
    /// # Panics
    ///
    /// If they cannot be written.
    pub fn write(&self) {
        for (file, items) in [("test_q", &self.questions), ("test_a", &self.answers)] {
            let text = Value::from(items.clone()).to_string();
            fs::write(self.path(&format!("eval_data/toy/{file}.json")), text)
                .expect("the benchmark can be written");
        }
    }

    /// A path in the temporary folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The path of a file of results.
    pub fn result(&self, file: &str) -> PathBuf {
        self.path("out").join(file)
    }

    /// `merv-host eval …` on this benchmark.
    pub fn run(&self, task: &str) -> Run {
        self.run_into(task, "out")
    }

    /// The same, with results in the folder `out`.
    pub fn run_into(&self, task: &str, out: &str) -> Run {
        self.ask(&super::fixture("lively/registry.toml"), task, out)
    }

    /// The same with the model of another registry.
    pub fn ask(&self, registry: &Path, task: &str, out: &str) -> Run {
        Run::new()
            .keeping(&self.folder)
            .arg("--registry")
            .arg(registry)
            .args(["eval", task, "--benchmark", "toy", "--data-dir"])
            .arg(self.path("eval_data"))
            .arg("--out")
            .arg(self.path(out))
    }

    /// The arguments of a run, for tests that manage the process themselves.
    pub fn arguments(&self, task: &str, out: &str) -> Vec<String> {
        let path = |path: &str| self.path(path).display().to_string();
        let registry = super::fixture("lively/registry.toml").display().to_string();
        let mut arguments = vec!["--registry".to_owned(), registry];
        arguments.extend(["eval", task, "--benchmark", "toy", "--data-dir"].map(str::to_owned));
        arguments.extend([path("eval_data"), "--out".to_owned(), path(out)]);
        arguments
    }

    /// The names of the visible files in the folder `out`, sorted.
    ///
    /// # Panics
    ///
    /// If the folder does not exist.
    pub fn files(&self, out: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(out)).expect("the folder of results exists");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("the results can be listed").file_name())
            .map(|name| name.into_string().expect("file names are UTF-8"))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }
}

/// Reads a file of JSON lines.
///
/// # Panics
///
/// If the file cannot be read, or a line is not a JSON object.
#[track_caller]
pub fn json_lines(path: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Loads the lively model into this process, with the plugins of the build.
///
/// # Panics
///
/// If it cannot be loaded.
pub fn tiny_model() -> VidLm {
    let options = tiny_options();
    let registry = super::fixture("lively/registry.toml");
    VidLm::load_with(registry, &options, &mut ()).expect("the lively model loads")
}

/// Options that load models with the built plugins, on two threads.
///
/// # Panics
///
/// If the plugins cannot be built.
pub fn tiny_options() -> LoadOptions {
    let folder = artifacts().host.parent().expect("a file has a folder");
    LoadOptions {
        plugin_folders: vec![folder.to_owned()],
        threads: Some(2),
        ..LoadOptions::default()
    }
}
