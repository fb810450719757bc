//! The index of a data set: the position of each example in the file. The examples themselves are not kept in
//! memory, so a million of them take 24 MB.

#[cfg(test)]
mod tests;

use super::{
    DataError, Example, Modality,
    entry::ExampleFault,
    scan::{ExamplePlace, FileLayout, ScanError, scan},
    tokens::check_system,
};
use crate::{disk::digest::Sha256Digest, in_one_line, prompt::PromptFormat, train::Task, video};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Maximum number of broken examples that are kept with their reasons.
const MAX_KEPT: usize = 1000;

/// What the index knows about an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    offset: u64,
    length: u32,
    /// Its number, or its line, in the file.
    number: u32,
    /// The number of words that are trained on: a measure of its length in tokens.
    pub words: u32,
    /// Whether it has an image, a video or neither.
    pub modality: Modality,
}

#[cfg(test)]
impl Entry {
    /// An entry without a file.
    pub fn new(words: u32, modality: Modality) -> Self {
        Self {
            offset: 0,
            length: 0,
            number: 0,
            words,
            modality,
        }
    }
}

/// An example that cannot be trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenExample {
    /// How messages refer to it: the file, its position in the file, and its id.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// A data set: an open file and the positions of its examples.
pub struct Index {
    path: PathBuf,
    layout: FileLayout,
    file: Mutex<File>,
    entries: Vec<Entry>,
    broken: Vec<BrokenExample>,
    broken_count: usize,
    empty_media: usize,
    sha256: String,
}

impl Index {
    /// Reads a file once, for training with `task`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is neither a JSON list nor JSONL, or none of its examples can be
    /// trained on.
    pub fn read(path: &Path, task: Task) -> Result<Self, DataError> {
        Self::read_for(path, task, None)
    }

    /// Does the same as [`Self::read`], and counts examples that the chat format cannot express as broken.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_for(
        path: &Path,
        task: Task,
        format: Option<PromptFormat>,
    ) -> Result<Self, DataError> {
        let open = || File::open(path).map_err(|source| unreadable(path, source));
        let file = open()?;
        let mut index = Self {
            path: path.to_owned(),
            layout: FileLayout::List,
            file: Mutex::new(open()?),
            entries: Vec::new(),
            broken: Vec::new(),
            broken_count: 0,
            empty_media: 0,
            sha256: String::new(),
        };
        let mut hasher = Sha256::new();
        index.layout = scan_file(path, Hashed(file, &mut hasher), |layout, place, json| {
            index.add(layout, place, json, task, format);
        })?;
        index.sha256 = Sha256Digest::finish(hasher).to_string();
        if index.entries.is_empty() {
            let first = index.broken.first();
            return Err(DataError::Empty {
                path: path.to_owned(),
                first: first.map_or_else(String::new, |broken| {
                    format!("; {}: {}", broken.name, broken.why)
                }),
            });
        }
        Ok(index)
    }

    fn add(
        &mut self,
        layout: FileLayout,
        place: ExamplePlace,
        json: &[u8],
        task: Task,
        format: Option<PromptFormat>,
    ) {
        let fits = |example: Example| {
            let checked = format.map(|format| check_system(&example, task, format));
            match checked.transpose() {
                Ok(_) => Ok(example),
                Err(error) => Err(ExampleFault {
                    why: error.to_string(),
                    place: None,
                }),
            }
        };
        match Example::parse(json).and_then(fits) {
            Ok(example) => {
                self.empty_media += usize::from(example.has_empty_medium);
                let turns = match task {
                    Task::Caption => &example.turns[example.turns.len() - 1..],
                    Task::Conversation => &example.turns,
                };
                let words = turns.iter().flat_map(|turn| turn.split_whitespace());
                self.entries.push(Entry {
                    offset: place.offset,
                    length: json.len() as u32,
                    number: u32::try_from(place.number).unwrap_or(u32::MAX),
                    words: words.filter(|&word| word != "<image>").count() as u32,
                    modality: example.modality(),
                });
            }
            Err(fault) => {
                self.broken_count += 1;
                if self.broken.len() < MAX_KEPT {
                    self.broken.push(broken(&self.path, layout, place, fault));
                }
            }
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the examples that can be trained on, as far as the file alone shows.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the examples that cannot be trained on, or the first 1,000 of them.
    pub fn broken(&self) -> &[BrokenExample] {
        &self.broken
    }

    /// Returns the number of examples that cannot be trained on.
    pub fn broken_count(&self) -> usize {
        self.broken_count
    }

    /// Returns the number of examples that are text only because their `image` or `video` is `null` or an empty
    /// list.
    pub fn empty_media(&self) -> usize {
        self.empty_media
    }

    /// Returns the number of all examples, including those that cannot be trained on.
    pub fn total(&self) -> usize {
        self.entries.len() + self.broken_count
    }

    /// Returns the SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns how messages refer to an entry: the file and the position in it.
    pub fn name(&self, entry: &Entry) -> String {
        name(&self.path, self.layout, entry.number as usize)
    }

    /// Returns the examples whose image or video is missing or an empty file. Paths are relative to `media`.
    ///
    /// # Errors
    ///
    /// The same as [`Self::example`].
    pub fn without_files(&self, media: &Path) -> Result<Vec<BrokenExample>, DataError> {
        let mut missing = Vec::new();
        let shows = |entry: &&Entry| entry.modality != Modality::Text;
        for entry in self.entries.iter().filter(shows) {
            let Some((_, path)) = self.example(entry)?.visual else {
                continue;
            };
            if let Err(error) = video::check_readable(&media.join(path)) {
                missing.push(BrokenExample {
                    name: self.name(entry),
                    why: in_one_line(&error),
                });
            }
        }
        Ok(missing)
    }

    /// Reads an example.
    ///
    /// # Errors
    ///
    /// When the file can no longer be read, or has changed.
    pub fn example(&self, entry: &Entry) -> Result<Example, DataError> {
        let mut json = vec![0; entry.length as usize];
        let read = {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(entry.offset))
                .and_then(|_| file.read_exact(&mut json))
        };
        match read {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(DataError::Changed(self.path.clone()));
            }
            Err(source) => return Err(unreadable(&self.path, source)),
        }
        Example::parse(&json).map_err(|_| DataError::Changed(self.path.clone()))
    }
}

/// A reader that hashes what it reads.
struct Hashed<'h>(File, &'h mut Sha256);

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads the examples of a data set one after another. The file is never in memory as a whole.
///
/// # Errors
///
/// When the file cannot be read, or is neither a JSON list nor JSONL.
pub fn each_example(
    path: &Path,
    mut take: impl FnMut(Result<Example, BrokenExample>),
) -> Result<(), DataError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    scan_file(path, file, |layout, place, json| {
        let example = Example::parse(json);
        take(example.map_err(|fault| broken(path, layout, place, fault)));
    })?;
    Ok(())
}

fn scan_file(
    path: &Path,
    file: impl Read,
    take: impl FnMut(FileLayout, ExamplePlace, &[u8]),
) -> Result<FileLayout, DataError> {
    let reader = BufReader::with_capacity(1 << 18, file);
    scan(reader, take).map_err(|error| match error {
        ScanError::Io(source) => unreadable(path, source),
        ScanError::Form(what, line, column) => DataError::NoList {
            path: path.to_owned(),
            what,
            line,
            column,
        },
    })
}

fn unreadable(path: &Path, source: io::Error) -> DataError {
    DataError::Read {
        path: path.to_owned(),
        source,
    }
}

/// Describes a broken example: its position and, for a syntax error, the line and column in the file.
fn broken(
    path: &Path,
    layout: FileLayout,
    place: ExamplePlace,
    ExampleFault { why, place: at }: ExampleFault,
) -> BrokenExample {
    let why = match (at, layout) {
        (None, _) => why,
        (Some((_, column)), FileLayout::Lines) => {
            format!("{why}, column {}", place.column + column)
        }
        (Some((1, column)), FileLayout::List) => {
            format!(
                "{why}, line {}, column {}",
                place.line,
                place.column + column
            )
        }
        (Some((line, column)), FileLayout::List) => {
            format!("{why}, line {}, column {column}", place.line + line - 1)
        }
    };
    BrokenExample {
        name: name(path, layout, place.number),
        why,
    }
}

fn name(path: &Path, layout: FileLayout, number: usize) -> String {
    let what = match layout {
        FileLayout::List => "example",
        FileLayout::Lines => "line",
    };
    format!("{}, {what} {number}", path.display())
}
