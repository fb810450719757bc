//! The questions and answers of a benchmark, in the layout of the original: a folder with `test_q.json`,
//! `test_a.json` and `videos/`.

use super::{EvalError, json::without_nan, problem::Problem, task::Task};
use crate::{
    disk::{checksum, digest::Sha256Digest},
    messages::quoted,
};
use merv_architectures::nearest::nearest;
use merv_checkpoint::text;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
};

/// The file names of a benchmark.
const QUESTIONS: &str = "test_q.json";
const ANSWERS: &str = "test_a.json";

/// The keys of a question and of an answer that this program reads.
const QUESTION_KEYS: [&str; 8] = [
    "question_id",
    "video_name",
    "question",
    "options",
    "num_option",
    "time",
    "end_frame",
    "kind",
];
const ANSWER_KEYS: [&str; 4] = ["question_id", "answer", "answer_id", "kind"];

/// The suffix of a benchmark's name that adds a `<video>` mark to every message.
const TOKEN: &str = "_token";

/// A benchmark.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its name, as requested.
    pub benchmark: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether messages contain a `<video>` mark.
    pub video_mark: bool,
    /// The questions, in order.
    pub questions: Vec<Question>,
    /// The SHA-256 of both files.
    pub digest: String,
}

/// A question with its answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its id as text.
    pub id: String,
    /// The name of its video, without an extension.
    pub video_name: String,
    /// The text of the question.
    pub text: String,
    /// The options of a multiple-choice question.
    pub choice: Option<Choice>,
    /// The part of the video that it is about.
    pub window: Window,
    /// The kinds of question that it counts towards.
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
    /// The number of letters offered.
    pub letters: usize,
    /// The index of the correct option.
    pub answer_id: usize,
}

/// The part of a video that a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Window {
    /// The start, in seconds.
    pub start: Option<f64>,
    /// The end, in seconds.
    pub end: Option<f64>,
    /// The last frame.
    pub end_frame: Option<i64>,
}

impl Dataset {
    /// Reads the benchmark `name` from `data_dir`.
    ///
    /// # Errors
    ///
    /// When it does not exist, or some of its items are invalid. The error lists all of them.
    pub fn load(data_dir: &Path, name: &str, task: Task) -> Result<Self, EvalError> {
        let plain = name.replace(TOKEN, "");
        // The file names of the results begin with it.
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
            let text = text::read(&path, u64::MAX).map_err(|source| EvalError::Read {
                path: path.clone(),
                source,
            })?;
            digest.update(text.as_bytes());
            let items = serde_json::from_str::<Vec<Map<String, Value>>>(&without_nan(&text));
            items.map_err(|source| EvalError::Json {
                path: path.clone(),
                expected: "a list of objects",
                source,
            })
        };
        let (questions, answers) = (read(QUESTIONS)?, read(ANSWERS)?);
        let mut problems = Vec::new();
        let answers = by_id(answers, &mut problems);
        let mut seen = HashMap::new();
        let mut checked = Vec::new();
        for (index, fields) in questions.into_iter().enumerate() {
            let item = Item { index, fields };
            match question(item, &answers, task, name) {
                Ok(question) => {
                    if let Some(first) = seen.insert(question.id.clone(), index) {
                        let id = quoted(&question.id);
                        problems.push(Problem {
                            file: QUESTIONS,
                            index,
                            what: format!("question_id {id} is already used by item {first}"),
                        });
                    }
                    checked.push(question);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(EvalError::Items { folder, problems });
        }
        if checked.is_empty() {
            let path = folder.join(QUESTIONS);
            return Err(EvalError::NoQuestion { path });
        }
        Ok(Self {
            benchmark: name.to_owned(),
            folder,
            video_mark: name.contains(TOKEN),
            questions: checked,
            digest: Sha256Digest::finish(digest).to_string(),
        })
    }

    /// Returns the questions of chunk `index` of `count`, divided as in the original: all chunks except the last
    /// have the same length, and the last may be empty.
    ///
    /// # Errors
    ///
    /// When the chunk does not exist.
    pub fn chunk(&self, index: usize, count: usize) -> Result<&[Question], EvalError> {
        if index >= count {
            return Err(EvalError::NoChunk { index, count });
        }
        let total = self.questions.len();
        if count > total {
            return Err(EvalError::TooManyChunks { count, total });
        }
        let size = total.div_ceil(count);
        let first = (size * index).min(total);
        Ok(&self.questions[first..(first + size).min(total)])
    }
}

fn hint(data_dir: &Path, name: &str) -> String {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join(QUESTIONS).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let available = match known.as_slice() {
        [] => {
            return format!(
                "set --data-dir; {} does not contain a benchmark",
                data_dir.display()
            );
        }
        names => names.join(", "),
    };
    match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`? Available: {available}"),
        None => format!("choose one of {available}"),
    }
}

/// An object of a list, and its index.
struct Item {
    index: usize,
    fields: Map<String, Value>,
}

fn by_id(items: Vec<Map<String, Value>>, problems: &mut Vec<Problem>) -> HashMap<String, Item> {
    let mut found: HashMap<String, Item> = HashMap::with_capacity(items.len());
    for (index, fields) in items.into_iter().enumerate() {
        let mut wrong = |what: String| {
            problems.push(Problem {
                file: ANSWERS,
                index,
                what,
            });
        };
        match filled(&fields, "question_id") {
            Ok(id) => {
                if let Some(first) = found.get(&id) {
                    let id = quoted(&id);
                    wrong(format!(
                        "question_id {id} is already used by item {}",
                        first.index
                    ));
                } else {
                    found.insert(id, Item { index, fields });
                }
            }
            Err(what) => wrong(what),
        }
    }
    found
}

fn question(
    Item { index, fields }: Item,
    answers: &HashMap<String, Item>,
    task: Task,
    benchmark: &str,
) -> Result<Question, Problem> {
    let wrong = |what| Problem {
        file: QUESTIONS,
        index,
        what,
    };
    let id = filled(&fields, "question_id").map_err(wrong)?;
    let about = |what: String| wrong(format!("question {}: {what}", quoted(&id)));
    check_keys(&fields, &QUESTION_KEYS).map_err(about)?;
    let (video_name, text) = (
        filled(&fields, "video_name").map_err(about)?,
        filled(&fields, "question").map_err(about)?,
    );
    marks(&text, benchmark).map_err(about)?;
    let window = window(&fields).map_err(about)?;
    let item = answers.get(&id);
    let item = item.ok_or_else(|| {
        wrong(format!(
            "question {} has no answer in {ANSWERS}",
            quoted(&id)
        ))
    })?;
    // Problems of the answer are reported for the file of the answers.
    let in_answer = |what: String| Problem {
        file: ANSWERS,
        index: item.index,
        what: format!("question {}: {what}", quoted(&id)),
    };
    check_keys(&item.fields, &ANSWER_KEYS).map_err(in_answer)?;
    let choice = match task {
        Task::OpenEnded => {
            references(&item.fields).map_err(in_answer)?;
            None
        }
        Task::MultipleChoice => {
            let (options, letters) = options(&fields).map_err(about)?;
            let answer_id = answer_id(&item.fields, options.len()).map_err(in_answer)?;
            Some(Choice {
                options,
                letters,
                answer_id,
            })
        }
    };
    Ok(Question {
        kinds: kinds(&id, &fields, &item.fields, benchmark),
        video_name,
        text,
        window,
        id,
        choice,
        answer_fields: item.fields.clone(),
        fields,
    })
}

/// Refuses a key that is a misspelling of a missing key, or that predictions reserve.
fn check_keys(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    if fields.contains_key(checksum::FIELD) {
        return Err(format!(
            "the key `{}` is reserved for the checksum of a prediction; rename it",
            checksum::FIELD
        ));
    }
    let plain = |key: &str| {
        let letters = key.chars().filter(|c| c.is_alphanumeric());
        let plain: String = letters.flat_map(char::to_lowercase).collect();
        plain.strip_suffix('s').map(str::to_owned).unwrap_or(plain)
    };
    for key in fields.keys().filter(|key| !known.contains(&key.as_str())) {
        let meant = known
            .iter()
            .find(|meant| !fields.contains_key(**meant) && plain(meant) == plain(key));
        if let Some(meant) = meant {
            return Err(format!("unknown key {}; write `{meant}`", quoted(key)));
        }
    }
    Ok(())
}

/// Refuses a message with several marks: a question is about one video.
fn marks(question: &str, benchmark: &str) -> Result<(), String> {
    let own: usize = ["<image>", "<video>"]
        .map(|mark| question.matches(mark).count())
        .iter()
        .sum();
    let added = usize::from(benchmark.contains(TOKEN));
    match own + added {
        0 | 1 => Ok(()),
        marks if added == 0 => Err(format!(
            "`question` contains {marks} marks such as `<video>`; expected at most one"
        )),
        _ => Err(format!(
            "`question` contains a mark such as `<video>`, and `{TOKEN}` adds another"
        )),
    }
}

/// Returns the correct answers: one string, or a list of strings.
pub(super) fn references(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    match fields.get("answer") {
        Some(Value::Array(list)) if list.is_empty() => Err(
            "`answer` is an empty list; expected a string or a list with at least one string"
                .to_owned(),
        ),
        Some(Value::Array(list)) => {
            let answers = list.iter().map(|one| match one {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => {
                    let other = quoted(&other.to_string());
                    Err(format!("`answer` contains {other}; expected strings"))
                }
            });
            answers.collect()
        }
        _ => text(fields, "answer").map(|one| vec![one]),
    }
}

/// Like [`text`], but refuses an empty string.
fn filled(fields: &Map<String, Value>, key: &str) -> Result<String, String> {
    match text(fields, key) {
        Ok(text) if text.trim().is_empty() => Err(format!("`{key}` is empty")),
        other => other,
    }
}

/// Returns a string, or the string in a list of one. Numbers, which some files use for ids and answers, are
/// converted to their digits.
pub(super) fn text(fields: &Map<String, Value>, key: &str) -> Result<String, String> {
    let value = match fields.get(key) {
        Some(Value::Array(list)) if list.len() == 1 => list.first(),
        other => other,
    };
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!(
            "`{key}` is {}; expected a string",
            quoted(&other.to_string())
        )),
        None => {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            let near = nearest(key, &keys).map(|near| format!("; did you mean {}?", quoted(near)));
            Err(format!("`{key}` is missing{}", near.unwrap_or_default()))
        }
    }
}

fn whole(fields: &Map<String, Value>, key: &str) -> Result<Option<usize>, String> {
    match fields.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => {
                let value = quoted(&value.to_string());
                Err(format!("`{key}` is {value}; expected a whole number"))
            }
        },
    }
}

/// Returns the options, and the number of letters offered.
fn options(fields: &Map<String, Value>) -> Result<(Vec<String>, usize), String> {
    let options = match fields.get("options") {
        Some(Value::Array(options)) => options,
        Some(other) => {
            let other = quoted(&other.to_string());
            return Err(format!("`options` is {other}; expected a list of strings"));
        }
        None => return Err("the list `options` is missing".to_owned()),
    };
    let options: Vec<String> = options
        .iter()
        .map(|option| match option {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => {
                let other = quoted(&other.to_string());
                Err(format!("`options` contains {other}; expected strings"))
            }
        })
        .collect::<Result<_, _>>()?;
    let letters = whole(fields, "num_option")?.unwrap_or(options.len());
    // With a single letter, every answer would be correct.
    if letters < 2 || letters > options.len() || options.len() > 26 {
        return Err(format!(
            "`num_option` is {letters} and there are {} options; expected 2 to 26 options, and a `num_option` from 2 \
             to the number of options",
            options.len()
        ));
    }
    Ok((options, letters))
}

fn answer_id(answer: &Map<String, Value>, options: usize) -> Result<usize, String> {
    let answer_id = whole(answer, "answer_id")?.ok_or("`answer_id` is missing")?;
    if answer_id >= options {
        return Err(format!(
            "`answer_id` is {answer_id}; expected a number below {options}, the number of options"
        ));
    }
    Ok(answer_id)
}

fn window(fields: &Map<String, Value>) -> Result<Window, String> {
    let (start, end) = match fields.get("time") {
        None | Some(Value::Null) => (None, None),
        Some(time) => match time.as_array().map(Vec::as_slice) {
            // A null was NaN, which means the beginning or the end of the video.
            Some([start, end]) if [start, end].iter().all(|t| t.is_number() || t.is_null()) => {
                (start.as_f64(), end.as_f64())
            }
            _ => {
                let time = quoted(&time.to_string());
                return Err(format!(
                    "`time` is {time}; expected [start, end] in seconds"
                ));
            }
        },
    };
    let end_frame = match fields.get("end_frame") {
        None | Some(Value::Null) => None,
        // NumPy may have written a float.
        Some(frame) => match frame.as_i64().or_else(|| frame.as_f64().map(|f| f as i64)) {
            Some(frame) => Some(frame),
            None => {
                let frame = quoted(&frame.to_string());
                return Err(format!("`end_frame` is {frame}; expected a whole number"));
            }
        },
    };
    Ok(Window {
        start,
        end,
        end_frame,
    })
}

/// Returns the kinds of a question: the `kind` of the item, or for NExT-QA the kinds encoded in its id (causal,
/// temporal or descriptive, and the subtype).
fn kinds(
    id: &str,
    fields: &Map<String, Value>,
    answer: &Map<String, Value>,
    benchmark: &str,
) -> Vec<String> {
    let kind = [fields, answer]
        .into_iter()
        .find_map(|f| f.get("kind")?.as_str());
    if let Some(kind) = kind {
        return vec![kind.to_owned()];
    }
    if !benchmark.contains("NExT-QA") {
        return Vec::new();
    }
    match id.split('_').next() {
        // "Before" and "after" are one kind, as in the paper of the benchmark.
        Some("TP" | "TN") => vec!["T".to_owned(), "TN".to_owned()],
        Some(kind @ ("CW" | "CH" | "TC" | "DC" | "DL" | "DO")) => {
            vec![kind[..1].to_owned(), kind.to_owned()]
        }
        _ => Vec::new(),
    }
}
