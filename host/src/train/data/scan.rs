//! Where the examples lie in a file: the elements of a JSON list, or the lines of JSONL. Which of both it is
//! tells its first byte.

use merv_checkpoint::text::is_utf16;
use std::io::{self, BufRead};

/// Bytes of one example at most: a longer one is a mistake in the file's brackets.
const MAX_EXAMPLE: usize = 1 << 24;

/// How a file lists its examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A JSON list.
    List,
    /// An example a line.
    Lines,
}

/// Where an example begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// In bytes from the beginning of the file.
    pub offset: u64,
    /// In a list, which of its elements it is; else its line. From 1 on.
    pub number: usize,
    /// Its line, from 1 on.
    pub line: usize,
    /// The bytes before it in its line.
    pub column: usize,
}

/// Why a file cannot be scanned.
pub(super) enum ScanError {
    Io(io::Error),
    /// What is wrong, in which line and column, both from 1 on.
    Form(String, usize, usize),
}

/// Hands the bytes of each example to `take`. An example is whatever its line, or its brackets and strings,
/// hold together; whether it is JSON, its reader finds out.
pub(super) fn scan(
    mut reader: impl BufRead,
    mut take: impl FnMut(Layout, Place, &[u8]),
) -> Result<Layout, ScanError> {
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
    layout: Option<Layout>,
    state: State,
    element: Vec<u8>,
    place: Place,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The byte that is looked at, and in which line it is.
    at: u64,
    lines: usize,
    line_start: u64,
}

/// Where the scan is.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Before,
    Element,
    /// An element of a list, or its end.
    First,
    After,
    Next,
    End,
}

impl Scan {
    fn step(
        &mut self,
        byte: u8,
        take: &mut impl FnMut(Layout, Place, &[u8]),
    ) -> Result<(), ScanError> {
        match (self.layout, self.state) {
            (Some(Layout::List), State::Element) => {
                self.push(byte)?;
                if self.depth == 0 {
                    take(Layout::List, self.place, &self.element);
                    self.state = State::After;
                }
            }
            (Some(Layout::Lines), State::Element) => match byte {
                b'\n' => {
                    take(Layout::Lines, self.place, &self.element);
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

    /// A byte of an element; in a list its brackets are counted.
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
            let Place { line, column, .. } = self.place;
            return Err(ScanError::Form(what, line, column + 1));
        }
        Ok(())
    }

    /// A byte outside of the elements.
    fn between(&mut self, byte: u8) -> Result<(), ScanError> {
        // A byte-order mark may stand before everything.
        let mark = self.state == State::Before && self.at < 3 && b"\xef\xbb\xbf".contains(&byte);
        if mark || byte.is_ascii_whitespace() {
            return Ok(());
        }
        match (self.layout, self.state, byte) {
            (None, _, b'[') => {
                self.layout = Some(Layout::List);
                self.state = State::First;
            }
            (None, _, b'{') => {
                self.layout = Some(Layout::Lines);
                self.begin(byte)?;
            }
            (None, ..) => return Err(self.unexpected(byte, "`[` or `{`")),
            // Whatever a line holds, it alone is wrong then.
            (Some(Layout::Lines), ..) => self.begin(byte)?,
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
        self.place = Place {
            offset: self.at,
            number: match self.layout {
                Some(Layout::Lines) => line,
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

    fn finish(self, mut take: impl FnMut(Layout, Place, &[u8])) -> Result<Layout, ScanError> {
        match (self.layout, self.state) {
            (Some(Layout::Lines), State::Element) => {
                take(Layout::Lines, self.place, &self.element);
                Ok(Layout::Lines)
            }
            (Some(Layout::Lines), _) => Ok(Layout::Lines),
            (Some(Layout::List), State::End) => Ok(Layout::List),
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
