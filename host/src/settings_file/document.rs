//! A settings file as text: reading it within bounds, and its TOML syntax.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use merv_checkpoint::text::{self, NotUtf8};
use toml::de::DeTable;

use super::Problem;

/// A registry, or the settings of a run, is a page of text; anything much larger is some other file.
const MAX_BYTES: u64 = 1 << 20;

/// Width of the piece of a line that is shown around a syntax error.
const SNIPPET_CHARS: usize = 80;

/// What a file should be, for messages.
pub(crate) struct About {
    /// `registry`
    pub(crate) name: &'static str,
    /// A file of its kind to begin from.
    pub(crate) example: &'static str,
}

/// Why a file is not read.
pub(crate) enum Refusal {
    /// The system does not give it.
    Read(io::Error),
    /// It is not text of that kind.
    Content(Box<Problem>),
}

/// Reads the file, refusing what cannot be what it should be.
pub(crate) fn read(path: &Path, about: &About) -> Result<String, Refusal> {
    let refused = |problem: Problem| Refusal::Content(Box::new(problem));
    let name = about.name;

    // Before opening: opening a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(Refusal::Read)?;
    if metadata.is_dir() {
        return Err(refused(
            Problem::new(None, format!("this is a folder, not a {name} file"))
                .expected("a TOML file")
                .found("a folder")
                .hint("give the path of a file in it"),
        ));
    }
    if !metadata.is_file() {
        return Err(refused(
            Problem::new(None, "this is not a regular file")
                .expected("a TOML file")
                .found("a device, pipe or socket")
                .hint(format!("write the {name} to a file and give its path")),
        ));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Refusal::Read)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Refusal::Read)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refused(
            Problem::new(None, format!("the file is too large for a {name}"))
                .expected("at most 1 MiB of TOML")
                .found(format!("{} bytes", metadata.len()))
                .hint("check that this is the file you meant"),
        ));
    }
    let text = text::decode(&bytes).map_err(|error| {
        let (line, found) = match error {
            NotUtf8::Utf16 => (1, "UTF-16 text".to_owned()),
            NotUtf8::Other { at } => (
                1 + bytes[..at].iter().filter(|b| **b == b'\n').count(),
                format!("bytes that are not UTF-8, from byte {at} on"),
            ),
        };
        refused(
            Problem::new(line, "the file is not UTF-8 text")
                .expected("TOML, which is UTF-8 text")
                .found(found)
                .hint("save the file as UTF-8, or check that this is the file you meant"),
        )
    })?;
    if text.trim().is_empty() {
        return Err(refused(
            Problem::new(None, "the file is empty")
                .expected(format!("a {name}, which begins with `schema = 1`"))
                .found("nothing")
                .hint(format!("copy {} and change it", about.example)),
        ));
    }
    Ok(text.to_owned())
}

/// Parses the TOML, collecting every syntax error with the line it is on.
pub(crate) fn parse<'t>(text: &'t str, lines: &Lines) -> Result<DeTable<'t>, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    Err(errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(text.len(), |span| span.start);
            let what = format!(
                "not valid TOML: {}",
                error.message().trim().replace('\n', ", ")
            );
            Problem::new(lines.line_of(offset), what)
                .snippet(lines.snippet(text, offset))
                .hint("correct the syntax at the caret; text needs quotes")
        })
        .collect())
}

/// Where each line of a text begins.
pub(crate) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(crate) fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self {
            starts: std::iter::once(0)
                .chain(newlines.map(|(i, _)| i + 1))
                .collect(),
        }
    }

    /// The line, counted from 1, that holds the byte at `offset`.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// The line around `offset` and a caret below it.
    fn snippet(&self, text: &str, offset: usize) -> String {
        let number = self.line_of(offset);
        let start = self.starts.get(number - 1).copied().unwrap_or(0);
        let line = text
            .get(start..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or("");
        let column = text
            .get(start..offset)
            .map_or(0, |before| before.chars().count());
        let skipped = column.saturating_sub(SNIPPET_CHARS / 2);
        let piece: String = line
            .chars()
            .skip(skipped)
            .take(SNIPPET_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let gutter = " ".repeat(number.to_string().len());
        let indent = " ".repeat(column - skipped);
        format!("  {number} | {piece}\n  {gutter} | {indent}^")
    }
}
