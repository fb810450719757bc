//! Where each example of a data set lies in its file. The examples themselves stay there: a million of
//! them take 24 MB.

use super::{DataError, Example, Modality};
use crate::train::Task;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Bytes of one example at most: a longer one is a mistake in the file's brackets.
const MAX_EXAMPLE: usize = 1 << 24;

/// Broken examples of which it is remembered what is wrong.
const MAX_REMEMBERED: usize = 1000;

/// What is known of an example without reading it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    offset: u64,
    length: u32,
    /// The words of what is trained on: a measure of its length in tokens.
    pub words: u32,
    /// What it shows.
    pub modality: Modality,
}

#[cfg(test)]
impl Entry {
    /// An entry of no file.
    pub fn new(words: u32, modality: Modality) -> Self {
        Self {
            offset: 0,
            length: 0,
            words,
            modality,
        }
    }
}

/// An example that cannot be trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What the reader of a message finds it by: its place in the file, and its id.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// A data set: an open file and where its examples lie.
pub struct Index {
    path: PathBuf,
    file: Mutex<File>,
    entries: Vec<Entry>,
    broken: Vec<Broken>,
    broken_count: usize,
    sha256: String,
}

impl Index {
    /// Reads a file once, for examples that will be trained on by `task`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no JSON list, or none of its examples can be trained on.
    pub fn read(path: &Path, task: Task) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut index = Self {
            path: path.to_owned(),
            file: Mutex::new(File::open(path).map_err(unreadable)?),
            entries: Vec::new(),
            broken: Vec::new(),
            broken_count: 0,
            sha256: String::new(),
        };
        let mut hasher = Sha256::new();
        let reader = BufReader::with_capacity(1 << 18, Hashed(file, &mut hasher));
        scan(reader, |number, offset, json| {
            index.add(number, offset, json, task);
        })
        .map_err(|error| match error {
            ScanError::Io(source) => unreadable(source),
            ScanError::Form(what, at) => DataError::NoList {
                path: path.to_owned(),
                what,
                at,
            },
        })?;
        let digest = hasher.finalize();
        index.sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
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

    fn add(&mut self, number: usize, offset: u64, json: &[u8], task: Task) {
        match Example::parse(json) {
            Ok(example) => {
                let turns = match task {
                    Task::Caption => &example.turns[example.turns.len() - 1..],
                    Task::Conversation => &example.turns,
                };
                let words = turns.iter().flat_map(|turn| turn.split_whitespace());
                self.entries.push(Entry {
                    offset,
                    length: json.len() as u32,
                    words: words.filter(|&word| word != "<image>").count() as u32,
                    modality: example.modality(),
                });
            }
            Err(why) => {
                self.broken_count += 1;
                if self.broken.len() < MAX_REMEMBERED {
                    self.broken.push(Broken {
                        name: format!("example {number}"),
                        why,
                    });
                }
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The examples that can be trained on as far as the file alone tells.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Examples that cannot be trained on; the first of very many.
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// How many examples cannot be trained on.
    pub fn broken_count(&self) -> usize {
        self.broken_count
    }

    /// All examples, those that cannot be trained on too.
    pub fn total(&self) -> usize {
        self.entries.len() + self.broken_count
    }

    /// The SHA-256 of the file, in hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Reads an example.
    ///
    /// # Errors
    ///
    /// When the file cannot be read any more, or has changed.
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
            Err(source) => {
                return Err(DataError::Read {
                    path: self.path.clone(),
                    source,
                });
            }
        }
        Example::parse(&json).map_err(|_| DataError::Changed(self.path.clone()))
    }
}

/// Hashes what is read.
struct Hashed<'h>(File, &'h mut Sha256);

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}

enum ScanError {
    Io(io::Error),
    /// What is wrong, and at which byte.
    Form(String, u64),
}

/// Hands the bytes of each element of a JSON list to `take`, with its number from 1 and its offset. An
/// element is whatever its brackets and strings hold together; whether it is JSON, its reader finds out.
fn scan(
    mut reader: impl BufRead,
    mut take: impl FnMut(usize, u64, &[u8]),
) -> Result<(), ScanError> {
    let mut state = State::Before;
    let (mut element, mut start, mut number) = (Vec::new(), 0, 0);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut at = 0u64;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ScanError::Io(error)),
        };
        if chunk.is_empty() {
            break;
        }
        for (index, &byte) in chunk.iter().enumerate() {
            let here = at + index as u64;
            let unexpected = |expected: &str| {
                let found = char::from(byte).escape_default();
                Err(ScanError::Form(
                    format!("found `{found}` where {expected} was expected"),
                    here,
                ))
            };
            if state == State::Element {
                if in_string {
                    in_string = escaped || byte != b'"';
                    escaped = !escaped && byte == b'\\';
                } else {
                    match byte {
                        b'"' => in_string = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                }
                element.push(byte);
                if element.len() > MAX_EXAMPLE {
                    let what = format!("an example is longer than {MAX_EXAMPLE} bytes");
                    return Err(ScanError::Form(what, start));
                }
                if depth == 0 {
                    take(number, start, &element);
                    state = State::After;
                }
                continue;
            }
            // A byte order mark may stand before everything.
            let blank = byte.is_ascii_whitespace()
                || (state == State::Before && here < 3 && [0xef, 0xbb, 0xbf].contains(&byte));
            match (state, byte) {
                _ if blank => {}
                (State::Before, b'[') => state = State::First,
                (State::Before, _) => return unexpected("`[`"),
                (State::First | State::Next, b'{') => {
                    (state, depth, start) = (State::Element, 1, here);
                    number += 1;
                    element.clear();
                    element.push(byte);
                }
                (State::First | State::After, b']') => state = State::End,
                (State::After, b',') => state = State::Next,
                (State::First | State::Next, _) => return unexpected("`{`"),
                (State::After, _) => return unexpected("`,` or `]`"),
                (State::End | State::Element, _) => return unexpected("the end"),
            }
        }
        let length = chunk.len();
        at += length as u64;
        reader.consume(length);
    }
    if state == State::End {
        return Ok(());
    }
    Err(ScanError::Form(
        "the file ends in the middle".to_owned(),
        at,
    ))
}

/// Where in the list the scan is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    /// An element, or the end of an empty list.
    First,
    Element,
    After,
    Next,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(json: &str) -> Result<Index, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        fs::write(&path, json).unwrap();
        Index::read(&path, Task::Conversation).map_err(|error| error.to_string())
    }

    fn example(id: &str, question: &str, rest: &str) -> String {
        format!(
            r#"{{"id": "{id}", {rest} "conversations": [{{"from": "human", "value": "{question}"}},
               {{"from": "gpt", "value": "two words"}}]}}"#
        )
    }

    #[test]
    fn examples_are_found_whatever_is_in_their_strings() {
        let tricky = r#"a ] } , \" \\"#;
        let json = format!(
            "\u{feff} [ {},\n{}\t, {} ]\n",
            example("a", tricky, ""),
            example("ä", "<image> one", r#""image": "x.jpg","#),
            example("c", "", r#""video": "v.mp4", "nested": {"a": [{}]},"#),
        );
        let index = read(&json).unwrap();
        let kinds: Vec<_> = index.entries().iter().map(|entry| entry.modality).collect();
        assert_eq!(kinds, [Modality::Text, Modality::Image, Modality::Video]);
        let words: Vec<_> = index.entries().iter().map(|entry| entry.words).collect();
        assert_eq!(words, [8, 3, 2]);
        let ids = index
            .entries()
            .iter()
            .map(|entry| index.example(entry).unwrap().id);
        assert_eq!(ids.collect::<Vec<_>>(), ["a", "ä", "c"]);
        let first = index.example(&index.entries()[0]).unwrap();
        assert_eq!(first.turns[0], "a ] } , \" \\");
    }

    #[test]
    fn a_broken_example_is_left_out_and_named() {
        let json = format!(r#"[{{"id": 1}}, {}, {{"a" 1}}]"#, example("b", "x", ""));
        let index = read(&json).unwrap();
        assert_eq!((index.entries().len(), index.total()), (1, 3));
        let names: Vec<_> = index.broken().iter().map(|broken| &broken.name).collect();
        assert_eq!(names, ["example 1", "example 3"]);
    }

    #[test]
    fn what_is_no_list_says_where() {
        for (json, words) in [
            ("", "the file ends in the middle, at byte 0"),
            ("{}", "found `{` where `[` was expected, at byte 0"),
            (
                "[{} {}]",
                "found `{` where `,` or `]` was expected, at byte 4",
            ),
            ("[{},]", "found `]` where `{` was expected, at byte 4"),
            ("[{\"a\": \"}]", "ends in the middle, at byte 10"),
            ("[{}] x", "found `x` where the end was expected, at byte 5"),
            ("[]", "no example can be trained on"),
            ("[{}]", "example 1: its `conversations` are missing"),
        ] {
            let error = read(json).err().unwrap();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
