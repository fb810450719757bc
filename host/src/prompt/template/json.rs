//! The filter `tojson` as transformers has it: like Python's `json.dumps`, with nothing escaped for HTML.

use std::io::{self, Write};

use minijinja::{Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Bytes at most: shared values are small until they are written.
const MAX_BYTES: usize = 1 << 22;

/// Blanks of an indentation at most.
const MAX_INDENT: usize = 16;

pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let refuse = |why: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {why}"));
    let mut bytes = Bounded(Vec::new());
    let written = match options.get::<Option<usize>>("indent")? {
        Some(indent) => {
            let blanks = " ".repeat(indent.min(MAX_INDENT));
            let pretty = PrettyFormatter::with_indent(blanks.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, pretty))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    written.map_err(|error| refuse(error.to_string()))?;
    String::from_utf8(bytes.0).map_err(|error| refuse(error.to_string()))
}

/// Python's separators: `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

/// Takes so many bytes, and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::other(format!("more than {MAX_BYTES} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
