//! The files of predictions: one JSON object per line, under the file names of the original.
//!
//! Chunk K of N writes `…_pred_N_K.jsonl`, which is renamed to `…_done.jsonl` when it is complete. The chunk that
//! finishes last writes `…_pred_merge.jsonl`, in the order of the questions, and removes the files of the chunks.
//! A question is answered once: a process that starts takes over the answers to its questions from any file of
//! any N. Two locks make this safe between any number of processes: one on the files of this benchmark in the
//! folder, held briefly, and one on the chunk, held as long as a process works on it. A damaged line is reported,
//! and its question is asked again.

use super::{
    EvalError, Failure, Question,
    dataset::{Dataset, text},
    files::{damaged, held, read_if_there, replace, unreadable, unwritable},
    predictions::Line,
};
use crate::disk::{
    checksum::{ChecksumState, Mismatch, check_json, with_json_checksum},
    journal::{self, Journal},
    whole_file,
    write_lock::WriteLock,
};
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// The version of the recorded settings. It increases when a name or the meaning of a value changes.
const VERSION: u64 = 1;

/// The key of the version among the recorded settings.
const VERSION_KEY: &str = "version";

/// The predictions of one benchmark by one model in one folder.
pub struct Store {
    folder: PathBuf,
    /// The prefix of all file names, such as `MSVD` or `NExT-QA_naive`.
    stem: String,
    /// All settings that answers depend on.
    settings: BTreeMap<String, Value>,
    notices: RefCell<Vec<String>>,
}

/// A chunk that this process is working on.
pub struct Chunk<'s> {
    store: &'s Store,
    name: (usize, usize),
    journal: Journal,
    /// The ids of the answered questions.
    done: HashSet<String>,
    _lock: WriteLock,
}

/// How far a run is, over all its chunks.
#[derive(Debug, Clone)]
pub enum Completion {
    /// Every question is answered or listed as failed.
    Complete(Merged),
    /// Other chunks have questions left.
    Incomplete {
        /// The number of these questions.
        remaining: usize,
    },
}

/// The predictions of all chunks.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The predictions, in the order of the questions.
    pub lines: Vec<Line>,
    /// The questions that could not be asked.
    pub failed: Vec<Failure>,
}

impl Store {
    /// Opens the store in `folder`, which is created if it does not exist. `settings` are all settings that answers
    /// depend on: predictions made with other settings are not mixed with these.
    ///
    /// # Errors
    ///
    /// When the folder cannot be created.
    pub fn open(
        folder: &Path,
        stem: &str,
        settings: BTreeMap<String, Value>,
    ) -> Result<Self, EvalError> {
        fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
        Ok(Self {
            folder: folder.to_owned(),
            stem: stem.to_owned(),
            settings,
            notices: RefCell::default(),
        })
    }

    /// Returns the notices for the user since the last call: the damaged lines.
    pub fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Writes the settings, or compares them with the recorded ones. The recorded settings are replaced if no
    /// prediction was made with them. The caller must hold the lock of the folder.
    fn check_settings(&self) -> Result<(), EvalError> {
        let settings = &self.settings;
        let path = self.path("settings.json");
        let write = || {
            let mut recorded = settings.clone();
            recorded.insert(VERSION_KEY.to_owned(), VERSION.into());
            let text = serde_json::to_string_pretty(&recorded);
            let text = text.map_err(|error| unwritable(&path, error.into()))?;
            replace(&path, (with_json_checksum(&text) + "\n").as_bytes())
        };
        let Some(text) = read_if_there(&path)? else {
            return write();
        };
        if check_json(&text) == ChecksumState::Invalid {
            return Err(damaged(&path, ""));
        }
        let mut recorded: BTreeMap<String, Value> =
            serde_json::from_str(&text).map_err(|source| EvalError::Json {
                path: path.clone(),
                expected: "an object of settings",
                source,
            })?;
        recorded.remove("crc32");
        // Files without a version are those of version 1.
        let version = recorded
            .remove(VERSION_KEY)
            .unwrap_or_else(|| VERSION.into());
        if version != VERSION {
            return Err(EvalError::SettingsVersion {
                path,
                found: version.to_string(),
                expected: VERSION,
            });
        }
        let mut keys: Vec<&str> = recorded.keys().map(String::as_str).collect();
        keys.extend(settings.keys().map(String::as_str));
        keys.sort_unstable();
        keys.dedup();
        let show = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
        let differences: Vec<String> = keys
            .into_iter()
            .filter(|key| recorded.get(*key) != settings.get(*key))
            .map(|key| {
                let (recorded, requested) = (show(recorded.get(key)), show(settings.get(key)));
                format!("- {key}: recorded {recorded}, requested {requested}")
            })
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        if self.is_unused()? {
            return write();
        }
        Err(EvalError::OtherSettings {
            path,
            differences: differences.join("\n"),
        })
    }

    /// Returns whether there are no predictions and no failures yet, and no process is working on a chunk.
    fn is_unused(&self) -> Result<bool, EvalError> {
        let prefix = format!("{}_failed", self.stem);
        if !self.files(|name| name.starts_with(&prefix))?.is_empty() {
            return Ok(false);
        }
        for path in self.prediction_files(|_| true)? {
            let about = fs::metadata(&path).map_err(|source| unreadable(&path, source))?;
            if about.len() > 0 || !self.is_free(&path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the path `<stem>_<what>`.
    pub fn path(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}_{what}", self.stem))
    }

    /// Returns the path of the merged predictions.
    pub fn merged_path(&self) -> PathBuf {
        self.path("pred_merge.jsonl")
    }

    /// Returns all answers if every question is answered.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, belongs to another data set, or was made with other settings.
    pub fn complete(&self, dataset: &Dataset) -> Result<Option<Merged>, EvalError> {
        let _lock = self.lock()?;
        self.check_settings()?;
        let mut lines = self.lines(&self.merged_path(), &index(&dataset.questions))?;
        let found = dataset.questions.iter().map(|q| lines.remove(&q.id));
        Ok(found.collect::<Option<Vec<Line>>>().map(|lines| Merged {
            lines,
            failed: Vec::new(),
        }))
    }

    /// Starts or resumes chunk `name.1` of `name.0`.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written or were made with other settings, or another process is working on the
    /// same chunk.
    pub fn begin(
        &self,
        name: (usize, usize),
        questions: &[Question],
    ) -> Result<Chunk<'_>, EvalError> {
        let _lock = self.lock()?;
        self.check_settings()?;
        let (path, whole) = (self.running(name), self.done(name));
        let lock = WriteLock::beside(&path, "eval").map_err(held)?;
        if whole.exists() && !path.exists() {
            fs::rename(&whole, &path).map_err(|source| unwritable(&path, source))?;
        }
        let journal = Journal::open(&path).map_err(|source| unwritable(&path, source))?;
        let questions = index(questions);
        let mut done = self.lines(&path, &questions)?;
        let mut added = String::new();
        for other in self.prediction_files(|_| true)? {
            if other == path {
                continue;
            }
            for (id, line) in self.lines(&other, &questions)? {
                done.entry(id).or_insert_with(|| {
                    added.push_str(&line.text);
                    added.push('\n');
                    line
                });
            }
        }
        let mut chunk = Chunk {
            store: self,
            name,
            journal,
            done: done.into_keys().collect(),
            _lock: lock,
        };
        if !added.is_empty() {
            let written = chunk.journal.add_lines(&added);
            chunk.synced(written)?;
        }
        Ok(chunk)
    }

    /// Merges the chunks if these and the earlier merged file cover every question. Otherwise returns the number of
    /// questions that are missing.
    fn merge(&self, count: usize, dataset: &Dataset) -> Result<Completion, EvalError> {
        let questions = index(&dataset.questions);
        let prefix = format!("{}_pred_{count}_", self.stem);
        let chunks = self
            .prediction_files(|name| name.starts_with(&prefix) && name.ends_with("_done.jsonl"))?;
        let mut answered: HashMap<String, Line> = HashMap::new();
        for file in chunks.iter().chain([&self.merged_path()]) {
            for (id, line) in self.lines(file, &questions)? {
                answered.entry(id).or_insert(line);
            }
        }
        let prefix = format!("{}_failed_{count}_", self.stem);
        let mut failures = self.files(|name| name.starts_with(&prefix))?;
        failures.push(self.path("failed.jsonl"));
        let mut failed: HashMap<String, Failure> = HashMap::new();
        for file in &failures {
            for line in self.sound(file)? {
                if let Ok(failure) = serde_json::from_str::<Failure>(&line) {
                    failed.entry(failure.question_id.clone()).or_insert(failure);
                }
            }
        }
        let mut merged = Merged {
            lines: Vec::new(),
            failed: Vec::new(),
        };
        let mut missing = 0;
        for question in &dataset.questions {
            match (answered.remove(&question.id), failed.remove(&question.id)) {
                (Some(line), _) => merged.lines.push(line),
                (None, Some(failure)) => merged.failed.push(failure),
                (None, None) => missing += 1,
            }
        }
        if missing > 0 {
            return Ok(Completion::Incomplete { remaining: missing });
        }
        let lines = merged.lines.iter().map(|line| line.text.clone() + "\n");
        replace(&self.merged_path(), lines.collect::<String>().as_bytes())?;
        self.write_failed(&self.path("failed.jsonl"), &merged.failed)?;
        for file in chunks
            .iter()
            .chain(failures.split_last().map_or(&[][..], |f| f.1))
        {
            fs::remove_file(file).map_err(|source| unwritable(file, source))?;
        }
        if merged.failed.is_empty() {
            // The merged file also contains the answers of chunks of another N.
            for file in self.prediction_files(|name| self.is_chunk(name))? {
                if self.is_free(&file)? {
                    fs::remove_file(&file).map_err(|source| unwritable(&file, source))?;
                }
            }
        }
        Ok(Completion::Complete(merged))
    }

    /// Writes the failures, or removes the file if there are none.
    fn write_failed(&self, path: &Path, failed: &[Failure]) -> Result<(), EvalError> {
        if failed.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(unwritable(path, error))
                }
                _ => Ok(()),
            };
        }
        let mut text = String::new();
        for failure in failed {
            let line = serde_json::to_string(failure);
            text += &with_json_checksum(&line.map_err(|error| unwritable(path, error.into()))?);
            text.push('\n');
        }
        replace(path, text.as_bytes())
    }

    fn running(&self, (count, index): (usize, usize)) -> PathBuf {
        self.path(&format!("pred_{count}_{index}.jsonl"))
    }

    fn done(&self, (count, index): (usize, usize)) -> PathBuf {
        self.path(&format!("pred_{count}_{index}_done.jsonl"))
    }

    /// Returns whether `name` is the file name of a chunk, for any number of chunks.
    fn is_chunk(&self, name: &str) -> bool {
        let prefix = format!("{}_pred_", self.stem);
        let numbers = name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".jsonl"))
            .map(|rest| rest.strip_suffix("_done").unwrap_or(rest));
        let numbers = numbers.and_then(|rest| rest.split_once('_'));
        let is_number = |text: &str| text.parse::<usize>().is_ok();
        numbers.is_some_and(|(count, index)| is_number(count) && is_number(index))
    }

    /// Locks the files of this benchmark in the folder. Held while they are listed or renamed.
    fn lock(&self) -> Result<File, EvalError> {
        let path = self.folder.join(format!(".{}.lock", self.stem));
        let mut options = OpenOptions::new();
        let file = whole_file::no_link(options.create(true).append(true)).open(&path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| unwritable(&path, source))
    }

    fn prediction_files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, EvalError> {
        let prefix = format!("{}_pred_", self.stem);
        self.files(|name| name.starts_with(&prefix) && name.ends_with(".jsonl") && wanted(name))
    }

    /// Returns the files of the folder whose names are `wanted`, sorted.
    fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, EvalError> {
        let entries =
            fs::read_dir(&self.folder).map_err(|source| unreadable(&self.folder, source))?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|source| unreadable(&self.folder, source))?
                .path();
            if path
                .file_name()
                .and_then(OsStr::to_str)
                .is_some_and(&wanted)
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Returns whether no process is working on a chunk, given one of its files.
    fn is_free(&self, path: &Path) -> Result<bool, EvalError> {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // The lock uses the file name of the unfinished chunk.
        let running = match name.strip_suffix("_done.jsonl") {
            Some(chunk) => path.with_file_name(format!("{chunk}.jsonl")),
            None => path.to_owned(),
        };
        WriteLock::is_free(&running).map_err(|source| unreadable(path, source))
    }

    /// Returns the intact lines of a file, and adds a notice for each damaged line.
    fn sound(&self, path: &Path) -> Result<Vec<String>, EvalError> {
        let lines = journal::read(path).map_err(|source| unreadable(path, source))?;
        let mut notices = self.notices.borrow_mut();
        for number in lines.damaged {
            let text = format!(
                "{}, line {number}: {Mismatch}; its question is asked again",
                path.display()
            );
            if !notices.contains(&text) {
                notices.push(text);
            }
        }
        Ok(lines.valid.into_iter().map(|(_, line)| line).collect())
    }

    /// Returns the predictions in a file about `questions`. If two are about the same question, the first one
    /// counts. Lines that are not predictions are skipped: their questions are asked again.
    fn lines(
        &self,
        path: &Path,
        questions: &HashMap<&str, &Question>,
    ) -> Result<HashMap<String, Line>, EvalError> {
        let mut found = HashMap::new();
        for line in self.sound(path)?.into_iter().filter_map(Line::parse) {
            let Ok(id) = text(&line.fields, "question_id") else {
                continue;
            };
            let Some(question) = questions.get(id.as_str()) else {
                continue;
            };
            let says = |key| text(&line.fields, key).unwrap_or_default();
            if says("question") != question.text || says("video_name") != question.video_name {
                return Err(EvalError::OtherQuestion {
                    path: path.to_owned(),
                    id,
                });
            }
            found.entry(id).or_insert(line);
        }
        Ok(found)
    }
}

impl Chunk<'_> {
    /// Returns whether a question is answered.
    pub fn is_done(&self, question: &Question) -> bool {
        self.done.contains(&question.id)
    }

    /// Adds predictions. They are on disk when this returns.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn add(&mut self, predictions: &[Map<String, Value>]) -> Result<(), EvalError> {
        let lines = predictions.iter().map(serde_json::to_string);
        let written = lines
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::from)
            .and_then(|lines| self.journal.add(lines));
        self.synced(written)
    }

    fn synced(&self, written: io::Result<()>) -> Result<(), EvalError> {
        written
            .and_then(|()| self.journal.sync())
            .map_err(|source| unwritable(&self.store.running(self.name), source))
    }

    /// Closes the chunk, whose questions are all answered or listed in `failed`. Merges if it is the last chunk;
    /// otherwise returns the number of questions that remain for other chunks.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub fn finish(self, dataset: &Dataset, failed: &[Failure]) -> Result<Completion, EvalError> {
        let (count, index) = self.name;
        let _lock = self.store.lock()?;
        let failures = self.store.path(&format!("failed_{count}_{index}.jsonl"));
        self.store.write_failed(&failures, failed)?;
        let done = self.store.done(self.name);
        fs::rename(self.store.running(self.name), &done)
            .map_err(|source| unwritable(&done, source))?;
        self.store.merge(count, dataset)
    }
}

fn index(questions: &[Question]) -> HashMap<&str, &Question> {
    questions.iter().map(|q| (q.id.as_str(), q)).collect()
}
