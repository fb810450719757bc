//! Append-only files of JSON objects, one per line. They keep the records of a run even if it is killed. Every
//! line has a checksum. An incomplete last line is removed when the file is opened to append.

use crate::disk::{
    checksum::{check_json, with_json_checksum},
    whole_file,
};
use merv_checkpoint::text::{NotUtf8, is_utf16, without_mark};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

/// A file to append lines to. The caller must make sure that no other process appends to it.
#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    /// Opens or creates the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written or is a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = whole_file::no_link(&mut options).open(path)?;
        remove_incomplete_line(&mut file)?;
        Ok(Self(file))
    }

    /// Appends objects, each on its own line, in one write.
    ///
    /// # Errors
    ///
    /// Returns an error if they cannot be written. A part that was written is removed again.
    pub(crate) fn add<S: AsRef<str>>(
        &mut self,
        objects: impl IntoIterator<Item = S>,
    ) -> io::Result<()> {
        let lines: String = objects
            .into_iter()
            .map(|object| with_json_checksum(object.as_ref()) + "\n")
            .collect();
        self.add_lines(&lines)
    }

    /// Appends complete lines without a change.
    ///
    /// # Errors
    ///
    /// The same as [`Self::add`].
    pub(crate) fn add_lines(&mut self, lines: &str) -> io::Result<()> {
        let before = self.0.metadata()?.len();
        self.0.write_all(lines.as_bytes()).inspect_err(|_| {
            // A full disk leaves half a line. The first error is the one to report.
            let _ = self.0.set_len(before);
        })
    }

    /// Flushes the file to the disk.
    ///
    /// # Errors
    ///
    /// Returns the error of the file system.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// The lines of a file with their numbers, counted from 1. Empty if the file does not exist.
pub(crate) struct Lines {
    /// The lines whose checksum is valid, or that have none.
    pub(crate) valid: Vec<(usize, String)>,
    /// The numbers of the other lines.
    pub(crate) damaged: Vec<usize>,
}

/// Reads a journal, or a JSONL file of another program. The caller has to skip an incomplete last line, which
/// is not valid JSON.
///
/// # Errors
///
/// Returns an error if the file cannot be read or is UTF-16 text.
pub(crate) fn read(path: &Path) -> io::Result<Lines> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes?,
    };
    if is_utf16(&bytes) {
        return Err(NotUtf8::Utf16.into());
    }
    let bytes = without_mark(&bytes);
    let mut lines = Lines {
        valid: Vec::new(),
        damaged: Vec::new(),
    };
    // Not `str::lines`: a line that Python wrote can contain other line breaks.
    let count = bytes.iter().filter(|&&byte| byte == b'\n').count();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        match str::from_utf8(line) {
            Ok(line) if check_json(line).is_acceptable() => {
                lines.valid.push((index + 1, line.to_owned()));
            }
            // The last line may end within a character.
            Err(_) if index == count => {}
            _ => lines.damaged.push(index + 1),
        }
    }
    Ok(lines)
}

/// Removes everything after the last line break: a line that a killed process did not finish.
fn remove_incomplete_line(file: &mut File) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n');
    let whole = whole.map_or(0, |at| at + 1);
    if whole < bytes.len() {
        file.set_len(whole as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_last_line_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        for (there, kept) in [
            ("{\"a\": 1}\n{\"b\"", "{\"a\": 1}\n"),
            ("{\"a\": 1}\n", "{\"a\": 1}\n"),
            ("{\"a\"", ""),
            ("", ""),
        ] {
            fs::write(&path, there).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), kept);
            journal.add(["{\"c\":1}"]).unwrap();
            let lines = read(&path).unwrap();
            assert!(lines.damaged.is_empty());
            assert!(lines.valid.iter().any(|(_, line)| line.contains("\"c\":1")));
        }
    }

    #[test]
    fn a_damaged_line_is_reported_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal
            .add([r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#])
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"a\":2", "\"a\":7")).unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.damaged, [2]);
        let numbers: Vec<_> = lines.valid.iter().map(|(number, _)| *number).collect();
        // The last line is empty.
        assert_eq!(numbers, [1, 3, 4]);
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "kept").unwrap();
        let path = folder.path().join("a.jsonl");
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(Journal::open(&path).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }
}
