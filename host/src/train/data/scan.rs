//! Finds the examples in a file: the elements of a JSON list, or the lines of JSONL. The first byte decides which of
//! the two it is.

use merv_checkpoint::text::is_utf16;
use std::io::{self, BufRead};

/// Maximum number of bytes of an example. A longer one means that a bracket is missing.
const MAX_EXAMPLE: usize = 1 << 24;

/// How a file lists its examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileLayout {
    /// A JSON list.
    List,
    /// One example per line.
    Lines,
}

/// The position of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ExamplePlace {
    /// Its offset in the file in bytes.
    pub offset: u64,
    /// In a list its number, otherwise its line, counted from 1.
    pub number: usize,
    /// Its line, counted from 1.
    pub line: usize,
    /// The number of bytes before it in its line.
    pub column: usize,
}

/// Why a file cannot be scanned.
pub(super) enum ScanError {
    Io(io::Error),
    /// What is wrong, and the line and column, both counted from 1.
    Form(String, usize, usize),
}

/// Calls `take` with the bytes of each example. Only lines, brackets and strings are examined; the caller parses the
/// JSON.
pub(super) fn scan(
    mut reader: impl BufRead,
    mut take: impl FnMut(FileLayout, ExamplePlace, &[u8]),
) -> Result<FileLayout, ScanError> {
    let mut scan = Scan::default();
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ScanError::Io(error)),
        };
        if chunk.is_empty() {
            return scan.finish(take);
        }
        if scan.at == 0 && is_utf16(chunk) {
            return Err(scan.wrong("it is UTF-16 text; save it as UTF-8".to_owned()));
        }
        for &byte in chunk {
            scan.step(byte, &mut take)?;
        }
        let length = chunk.len();
        reader.consume(length);
    }
}

#[derive(Default)]
struct Scan {
    layout: Option<FileLayout>,
    state: State,
    element: Vec<u8>,
    place: ExamplePlace,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The offset of the current byte, the number of lines before it, and the offset of its line.
    at: u64,
    lines: usize,
    line_start: u64,
}

/// The position of the scan: before, in, between or after the examples.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Before,
    Element,
    /// An element of the list, or its end.
    First,
    After,
    Next,
    End,
}

impl Scan {
    fn step(
        &mut self,
        byte: u8,
        take: &mut impl FnMut(FileLayout, ExamplePlace, &[u8]),
    ) -> Result<(), ScanError> {
        match (self.layout, self.state) {
            (Some(FileLayout::List), State::Element) => {
                self.push(byte)?;
                if self.depth == 0 {
                    take(FileLayout::List, self.place, &self.element);
                    self.state = State::After;
                }
            }
            (Some(FileLayout::Lines), State::Element) => match byte {
                b'\n' => {
                    take(FileLayout::Lines, self.place, &self.element);
                    self.state = State::Next;
                }
                _ => self.push(byte)?,
            },
            _ => self.between(byte)?,
        }
        self.at += 1;
        if byte == b'\n' {
            self.lines += 1;
            self.line_start = self.at;
        }
        Ok(())
    }

    /// Adds a byte to the current element, and counts its brackets.
    fn push(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.element.push(byte);
        if self.element.len() > MAX_EXAMPLE {
            let what = format!("an example is longer than {MAX_EXAMPLE} bytes");
            let ExamplePlace { line, column, .. } = self.place;
            return Err(ScanError::Form(what, line, column + 1));
        }
        Ok(())
    }

    /// Processes a byte outside of the elements.
    fn between(&mut self, byte: u8) -> Result<(), ScanError> {
        // The file may start with a byte-order mark.
        let mark = self.state == State::Before && self.at < 3 && b"\xef\xbb\xbf".contains(&byte);
        if mark || byte.is_ascii_whitespace() {
            return Ok(());
        }
        match (self.layout, self.state, byte) {
            (None, _, b'[') => {
                self.layout = Some(FileLayout::List);
                self.state = State::First;
            }
            (None, _, b'{') => {
                self.layout = Some(FileLayout::Lines);
                self.begin(byte)?;
            }
            (None, ..) => return Err(self.unexpected(byte, "`[` or `{`")),
            // If the line is wrong, the other lines are still used.
            (Some(FileLayout::Lines), ..) => self.begin(byte)?,
            (_, State::First | State::Next, b'{') => self.begin(byte)?,
            (_, State::First | State::After, b']') => self.state = State::End,
            (_, State::After, b',') => self.state = State::Next,
            (_, State::First | State::Next, _) => return Err(self.unexpected(byte, "`{`")),
            (_, State::After, _) => return Err(self.unexpected(byte, "`,` or `]`")),
            _ => return Err(self.unexpected(byte, "the end")),
        }
        Ok(())
    }

    fn begin(&mut self, first: u8) -> Result<(), ScanError> {
        let line = self.lines + 1;
        self.place = ExamplePlace {
            offset: self.at,
            number: match self.layout {
                Some(FileLayout::Lines) => line,
                _ => self.place.number + 1,
            },
            line,
            column: (self.at - self.line_start) as usize,
        };
        self.state = State::Element;
        self.element.clear();
        (self.depth, self.in_string, self.escaped) = (0, false, false);
        self.push(first)
    }

    fn finish(
        self,
        mut take: impl FnMut(FileLayout, ExamplePlace, &[u8]),
    ) -> Result<FileLayout, ScanError> {
        match (self.layout, self.state) {
            (Some(FileLayout::Lines), State::Element) => {
                take(FileLayout::Lines, self.place, &self.element);
                Ok(FileLayout::Lines)
            }
            (Some(FileLayout::Lines), _) => Ok(FileLayout::Lines),
            (Some(FileLayout::List), State::End) => Ok(FileLayout::List),
            (None, _) => Err(self.wrong("the file is empty".to_owned())),
            _ => Err(self.wrong("the file ends in the middle".to_owned())),
        }
    }

    fn unexpected(&self, byte: u8, expected: &str) -> ScanError {
        let found = char::from(byte).escape_default();
        self.wrong(format!("found `{found}` where {expected} was expected"))
    }

    fn wrong(&self, what: String) -> ScanError {
        let column = (self.at - self.line_start) as usize + 1;
        ScanError::Form(what, self.lines + 1, column)
    }
}
