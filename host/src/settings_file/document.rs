//! Reading of settings files: size limits, encoding and TOML syntax.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use merv_checkpoint::text::{self, NotUtf8};
use toml::de::DeTable;

use super::Problem;

/// The maximum size. A registry or the settings of a run are a page of text; a larger file is something else.
const MAX_BYTES: u64 = 1 << 20;

/// The number of characters of a line that are printed around a syntax error.
const SNIPPET_CHARS: usize = 80;

/// The kind of a settings file, for messages.
pub(crate) struct About {
    /// The name of the kind, such as `registry`.
    pub(crate) name: &'static str,
    /// A file of this kind that can be copied.
    pub(crate) example: &'static str,
}

/// Why a file cannot be used.
pub(crate) enum Refusal {
    /// It cannot be read.
    Read(io::Error),
    /// It is not a settings file.
    Content(Box<Problem>),
}

/// Reads a settings file, and refuses anything that cannot be one.
pub(crate) fn read(path: &Path, about: &About) -> Result<String, Refusal> {
    let refused = |problem: Problem| Refusal::Content(Box::new(problem));
    let name = about.name;

    // This has to be checked before opening, because opening a named pipe would wait for a writer.
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
                format!("invalid UTF-8 at byte {at}"),
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
                .expected(format!("a {name}, which starts with `schema = 1`"))
                .found("nothing")
                .hint(format!("copy {} and edit it", about.example)),
        ));
    }
    Ok(text.to_owned())
}

/// Parses the TOML. All syntax errors are returned together, each with its line.
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

/// The offsets of the lines of a text.
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

    /// Returns the line of the byte at `offset`, counted from 1.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Returns the line around `offset` with a caret below it.
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
