//! A benchmark's questions and answers, as the original keeps them: `test_q.json`, `test_a.json` and
//! `videos/` in one folder.

use super::{EvalError, json::without_nan, problem::Problem, task::Task};
use crate::{
    disk::{digest::Sha256Digest, sealed},
    messages::shown,
    nearest::nearest,
};
use merv_checkpoint::text;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
};

/// The files of a benchmark.
const QUESTIONS: &str = "test_q.json";
const ANSWERS: &str = "test_a.json";

/// What this program reads of a question, and of an answer.
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
                        let id = shown(&question.id);
                        problems.push(Problem {
                            file: QUESTIONS,
                            index,
                            what: format!("question_id {id} is item {first}'s already"),
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
    let there = match known.as_slice() {
        [] => return format!("set --data-dir; {} holds no benchmark", data_dir.display()),
        names => names.join(", "),
    };
    match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`? There are {there}"),
        None => format!("choose one of {there}"),
    }
}

/// An object of a list, and its place there.
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
                    let id = shown(&id);
                    wrong(format!(
                        "question_id {id} is item {}'s already",
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
    let about = |what: String| wrong(format!("question {}: {what}", shown(&id)));
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
            shown(&id)
        ))
    })?;
    // What is wrong with the answer stands in the other file.
    let in_answer = |what: String| Problem {
        file: ANSWERS,
        index: item.index,
        what: format!("question {}: {what}", shown(&id)),
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

/// Refuses a key that can only be another spelling of one that is not there, or that predictions need.
fn check_keys(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    if fields.contains_key(sealed::FIELD) {
        return Err(format!(
            "the key `{}` is taken: predictions keep their checksum there; rename it",
            sealed::FIELD
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
            return Err(format!("unknown key {}; write `{meant}`", shown(key)));
        }
    }
    Ok(())
}

/// Refuses a message that would hold several marks: a question is about one video.
fn marks(question: &str, benchmark: &str) -> Result<(), String> {
    let own: usize = ["<image>", "<video>"]
        .map(|mark| question.matches(mark).count())
        .iter()
        .sum();
    let added = usize::from(benchmark.contains(TOKEN));
    match own + added {
        0 | 1 => Ok(()),
        marks if added == 0 => Err(format!(
            "`question` holds {marks} marks, such as `<video>`; expected one at most"
        )),
        _ => Err(format!(
            "`question` holds a mark, such as `<video>`, and `{TOKEN}` adds another"
        )),
    }
}

/// The answers that are right: a text, or a list of some.
pub(super) fn references(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    match fields.get("answer") {
        Some(Value::Array(list)) if list.is_empty() => {
            Err("`answer` is an empty list; expected a text or some".to_owned())
        }
        Some(Value::Array(list)) => {
            let answers = list.iter().map(|one| match one {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => {
                    let other = shown(&other.to_string());
                    Err(format!("`answer` holds {other}; expected texts"))
                }
            });
            answers.collect()
        }
        _ => text(fields, "answer").map(|one| vec![one]),
    }
}

/// As [`text`], and not empty.
fn filled(fields: &Map<String, Value>, key: &str) -> Result<String, String> {
    match text(fields, key) {
        Ok(text) if text.trim().is_empty() => Err(format!("`{key}` is empty")),
        other => other,
    }
}

/// A text, or a list of one; numbers, which some files have for ids and answers, count as their digits.
pub(super) fn text(fields: &Map<String, Value>, key: &str) -> Result<String, String> {
    let value = match fields.get(key) {
        Some(Value::Array(list)) if list.len() == 1 => list.first(),
        other => other,
    };
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!(
            "`{key}` is {}; expected a text",
            shown(&other.to_string())
        )),
        None => {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            let near = nearest(key, &keys).map(|near| format!("; did you mean {}?", shown(near)));
            Err(format!("there is no `{key}`{}", near.unwrap_or_default()))
        }
    }
}

fn whole(fields: &Map<String, Value>, key: &str) -> Result<Option<usize>, String> {
    match fields.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => {
                let value = shown(&value.to_string());
                Err(format!("`{key}` is {value}; expected a whole number"))
            }
        },
    }
}

/// The options, and how many letters are offered.
fn options(fields: &Map<String, Value>) -> Result<(Vec<String>, usize), String> {
    let options = match fields.get("options") {
        Some(Value::Array(options)) => options,
        Some(other) => {
            let other = shown(&other.to_string());
            return Err(format!("`options` is {other}; expected a list of texts"));
        }
        None => return Err("there is no list `options`".to_owned()),
    };
    let options: Vec<String> = options
        .iter()
        .map(|option| match option {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => {
                let other = shown(&other.to_string());
                Err(format!("`options` holds {other}; expected texts"))
            }
        })
        .collect::<Result<_, _>>()?;
    let letters = whole(fields, "num_option")?.unwrap_or(options.len());
    // With one letter to choose from every answer is right.
    if letters < 2 || letters > options.len() || options.len() > 26 {
        return Err(format!(
            "`num_option` is {letters} and there are {} options; expected 2 to 26 options, and `num_option` from 2 to \
             their number",
            options.len()
        ));
    }
    Ok((options, letters))
}

fn answer_id(answer: &Map<String, Value>, options: usize) -> Result<usize, String> {
    let answer_id = whole(answer, "answer_id")?.ok_or("there is no `answer_id`")?;
    if answer_id >= options {
        return Err(format!(
            "`answer_id` is {answer_id}; expected one below {options}, for so many options there are"
        ));
    }
    Ok(answer_id)
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
                let time = shown(&time.to_string());
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
            None => {
                let frame = shown(&frame.to_string());
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
