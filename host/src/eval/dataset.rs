//! A benchmark's questions and answers, as the original keeps them: `test_q.json`, `test_a.json` and
//! `videos/` in one folder.

use super::{EvalError, json::without_nan};
use crate::nearest::nearest;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
};

/// What is asked and how it is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A question with a free answer.
    OpenEnded,
    /// A question with options.
    MultipleChoice,
}

/// The suffix of a benchmark's name that asks for a `<video>` mark in every message.
const TOKEN: &str = "_token";

/// A benchmark.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its name, as asked for.
    pub benchmark: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether messages carry a `<video>` mark.
    pub video_mark: bool,
    /// The questions, in order.
    pub questions: Vec<Question>,
    /// SHA-256 of both files.
    pub digest: String,
}

/// A question with its answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its id as text.
    pub id: String,
    /// The name of its video, without an ending.
    pub video_name: String,
    /// What is asked.
    pub text: String,
    /// The right answer.
    pub answer: String,
    /// The options of a multiple-choice question.
    pub choice: Option<Choice>,
    /// What of the video it is about.
    pub window: Window,
    /// Kinds of questions that it counts as.
    pub kinds: Vec<String>,
    /// The question as it is in the file.
    pub fields: Map<String, Value>,
    /// The answer as it is in the file.
    pub answer_fields: Map<String, Value>,
}

/// The options of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The options, in order.
    pub options: Vec<String>,
    /// How many letters are offered.
    pub letters: usize,
    /// The right one.
    pub answer_id: usize,
}

/// What of a video is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Window {
    /// Where to begin, in seconds.
    pub start: Option<f64>,
    /// Where to end, in seconds.
    pub end: Option<f64>,
    /// The last frame.
    pub end_frame: Option<i64>,
}

impl Dataset {
    /// Reads the benchmark `name` from `data_dir`.
    ///
    /// # Errors
    ///
    /// When it is not there, or with all of its items that are wrong.
    pub fn load(data_dir: &Path, name: &str, task: Task) -> Result<Self, EvalError> {
        let plain = name.replace(TOKEN, "");
        // The names of the results begin with it.
        let mut parts = Path::new(name).components();
        let first = parts.next();
        if parts.next().is_some() || first != Some(Component::Normal(OsStr::new(name))) {
            return Err(EvalError::NotAName(name.to_owned()));
        }
        let folder = data_dir.join(&plain);
        if plain.is_empty() || !folder.is_dir() {
            return Err(EvalError::NoBenchmark {
                hint: hint(data_dir, &plain),
                path: folder,
            });
        }
        let mut digest = Sha256::new();
        let mut read = |file: &str| {
            let path = folder.join(file);
            let text = fs::read_to_string(&path).map_err(|source| EvalError::Read {
                path: path.clone(),
                source,
            })?;
            digest.update(text.as_bytes());
            let items = serde_json::from_str::<Vec<Map<String, Value>>>(&without_nan(&text));
            let items = items.map_err(|source| EvalError::Json {
                path: path.clone(),
                expected: "a list of objects",
                source,
            })?;
            Ok::<_, EvalError>((path, items))
        };
        let (questions_path, questions) = read("test_q.json")?;
        let (answers_path, answers) = read("test_a.json")?;
        let answers = by_id(&answers_path, answers)?;
        let mut seen = HashMap::new();
        let (mut checked, mut problems) = (Vec::new(), Vec::new());
        for (index, fields) in questions.into_iter().enumerate() {
            match question(fields, &answers, task, &plain) {
                Ok(question) => {
                    if let Some(first) = seen.insert(question.id.clone(), index) {
                        let id = &question.id;
                        problems.push(format!(
                            "item {index}: question_id `{id}` is item {first}'s already"
                        ));
                    }
                    checked.push(question);
                }
                Err(problem) => problems.push(format!("item {index}: {problem}")),
            }
        }
        if checked.is_empty() && problems.is_empty() {
            problems.push("there is no question".to_owned());
        }
        if !problems.is_empty() {
            return Err(EvalError::Items {
                path: questions_path,
                problems,
            });
        }
        let digest = digest.finalize();
        Ok(Self {
            benchmark: name.to_owned(),
            folder,
            video_mark: name.contains(TOKEN),
            questions: checked,
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The questions of chunk `index` of `count`, cut as the original cuts them: all chunks but the last
    /// are equally long, and the last may be empty.
    ///
    /// # Errors
    ///
    /// When there is no such chunk.
    pub fn chunk(&self, index: usize, count: usize) -> Result<&[Question], EvalError> {
        if index >= count {
            return Err(EvalError::NoChunk { index, count });
        }
        let total = self.questions.len();
        let size = total.div_ceil(count);
        let first = (size * index).min(total);
        Ok(&self.questions[first..(first + size).min(total)])
    }
}

fn hint(data_dir: &Path, name: &str) -> String {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("test_q.json").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let there = match known.as_slice() {
        [] => return format!("set --data-dir; {} holds no benchmark", data_dir.display()),
        names => names.join(", "),
    };
    match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`? There are {there}"),
        None => format!("choose one of {there}"),
    }
}

fn by_id(
    path: &Path,
    items: Vec<Map<String, Value>>,
) -> Result<HashMap<String, Map<String, Value>>, EvalError> {
    let mut found = HashMap::with_capacity(items.len());
    let mut problems = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        match text(&item, "question_id") {
            Ok(id) => {
                if found.insert(id.clone(), item).is_some() {
                    problems.push(format!("item {index}: question_id `{id}` is there already"));
                }
            }
            Err(problem) => problems.push(format!("item {index}: {problem}")),
        }
    }
    if problems.is_empty() {
        return Ok(found);
    }
    Err(EvalError::Items {
        path: path.to_owned(),
        problems,
    })
}

fn question(
    fields: Map<String, Value>,
    answers: &HashMap<String, Map<String, Value>>,
    task: Task,
    benchmark: &str,
) -> Result<Question, String> {
    let id = text(&fields, "question_id")?;
    let answer_fields = answers
        .get(&id)
        .ok_or_else(|| format!("question `{id}` has no answer in test_a.json"))?
        .clone();
    let choice = match task {
        Task::OpenEnded => None,
        Task::MultipleChoice => {
            Some(choice(&fields, &answer_fields).map_err(|problem| format!("`{id}`: {problem}"))?)
        }
    };
    // The letter is what is scored; a benchmark may leave the words out.
    let answer = match (&choice, text(&answer_fields, "answer")) {
        (_, Ok(answer)) => answer,
        (Some(choice), Err(_)) => choice.options[choice.answer_id].clone(),
        (None, Err(problem)) => return Err(format!("`{id}` in test_a.json: {problem}")),
    };
    Ok(Question {
        video_name: text(&fields, "video_name")?,
        text: text(&fields, "question")?,
        window: window(&fields).map_err(|problem| format!("`{id}`: {problem}"))?,
        kinds: kinds(&id, &fields, &answer_fields, benchmark),
        id,
        answer,
        choice,
        fields,
        answer_fields,
    })
}

/// A text; numbers, which some files have for ids and answers, count as their digits.
pub(super) fn text(fields: &Map<String, Value>, key: &str) -> Result<String, String> {
    match fields.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!("`{key}` is {other}; expected a text")),
        None => Err(format!("there is no `{key}`")),
    }
}

fn choice(fields: &Map<String, Value>, answer: &Map<String, Value>) -> Result<Choice, String> {
    let options = fields.get("options").and_then(Value::as_array);
    let options = options.ok_or("there is no list `options`")?;
    let options: Vec<String> = options
        .iter()
        .map(|option| match option {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(format!("the option {other} is no text")),
        })
        .collect::<Result<_, _>>()?;
    let whole = |fields: &Map<String, Value>, key: &str| match fields.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => Err(format!("`{key}` is {value}; expected a whole number")),
        },
    };
    let letters = whole(fields, "num_option")?.unwrap_or(options.len());
    let answer_id = whole(answer, "answer_id")?.ok_or("there is no `answer_id` in test_a.json")?;
    if letters == 0 || letters > options.len() || options.len() > 26 {
        return Err(format!(
            "`num_option` is {letters} and there are {} options; expected 1 to 26 options, no fewer than `num_option`",
            options.len()
        ));
    }
    if answer_id >= options.len() {
        return Err(format!(
            "`answer_id` is {answer_id}; expected one below {}, for so many options there are",
            options.len()
        ));
    }
    Ok(Choice {
        options,
        letters,
        answer_id,
    })
}

fn window(fields: &Map<String, Value>) -> Result<Window, String> {
    let (start, end) = match fields.get("time") {
        None | Some(Value::Null) => (None, None),
        Some(time) => match time.as_array().map(Vec::as_slice) {
            // What is no number was NaN: from the beginning, to the end.
            Some([start, end]) if [start, end].iter().all(|t| t.is_number() || t.is_null()) => {
                (start.as_f64(), end.as_f64())
            }
            _ => {
                return Err(format!(
                    "`time` is {time}; expected [start, end] in seconds"
                ));
            }
        },
    };
    let end_frame = match fields.get("end_frame") {
        None | Some(Value::Null) => None,
        // Python's numpy may have left a float.
        Some(frame) => match frame.as_i64().or_else(|| frame.as_f64().map(|f| f as i64)) {
            Some(frame) => Some(frame),
            None => return Err(format!("`end_frame` is {frame}; expected a whole number")),
        },
    };
    Ok(Window {
        start,
        end,
        end_frame,
    })
}

/// What an item says, and for NExT-QA what its id says: causal, temporal or descriptive, and which of each.
fn kinds(
    id: &str,
    fields: &Map<String, Value>,
    answer: &Map<String, Value>,
    benchmark: &str,
) -> Vec<String> {
    let said = [fields, answer]
        .into_iter()
        .find_map(|f| f.get("kind")?.as_str());
    if let Some(kind) = said {
        return vec![kind.to_owned()];
    }
    if !benchmark.contains("NExT-QA") {
        return Vec::new();
    }
    match id.split('_').next() {
        // Before and after are one kind, as in the paper of the benchmark.
        Some("TP" | "TN") => vec!["T".to_owned(), "TN".to_owned()],
        Some(kind @ ("CW" | "CH" | "TC" | "DC" | "DL" | "DO")) => {
            vec![kind[..1].to_owned(), kind.to_owned()]
        }
        _ => Vec::new(),
    }
}
