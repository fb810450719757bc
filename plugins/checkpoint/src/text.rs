//! UTF-8 text files, with or without a byte-order mark.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};
use thiserror::Error;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes that are not UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotUtf8 {
    /// UTF-16 text, which Windows calls Unicode.
    #[error("it is UTF-16 text; save it as UTF-8")]
    Utf16,
    /// Text in another encoding, or not text.
    #[error("byte {at} is not UTF-8 text; save it as UTF-8")]
    Other {
        /// The position of the first invalid byte, from 0.
        at: usize,
    },
}

impl From<NotUtf8> for io::Error {
    fn from(error: NotUtf8) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Returns the text in `bytes`, without its byte-order mark.
///
/// # Errors
///
/// When it is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, NotUtf8> {
    if is_utf16(bytes) {
        return Err(NotUtf8::Utf16);
    }
    let text = without_mark(bytes);
    let skipped = bytes.len() - text.len();
    std::str::from_utf8(text).map_err(|error| NotUtf8::Other {
        at: skipped + error.valid_up_to(),
    })
}

/// Returns the bytes of a UTF-8 file without its byte-order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes)
}

/// Returns whether a file that begins with `bytes` is UTF-16 text. Such a file begins with a byte-order mark
/// or with letters that have zeros between them.
pub fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, b, c, d, ..] => {
            let zeros = [a, b, c, d].map(|byte| *byte == 0);
            zeros == [false, true, false, true] || zeros == [true, false, true, false]
        }
        _ => false,
    }
}

/// Reads a text file of at most `most` bytes.
///
/// # Errors
///
/// When it cannot be read, is longer, or is not UTF-8.
pub fn read(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(decode(&bytes)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn only_a_leading_mark_is_removed() {
        assert_eq!(decode(b"\xef\xbb\xbf{}"), Ok("{}"));
        assert_eq!(decode("{}\u{feff}".as_bytes()), Ok("{}\u{feff}"));
        assert_eq!(decode("ä\r\n".as_bytes()), Ok("ä\r\n"));
        assert_eq!(decode(b""), Ok(""));
    }

    #[test]
    fn other_encodings_are_recognised() {
        for text in ["{\"a\": 1}", "\u{feff}{\"a\": 1}", "schema = 1"] {
            assert_eq!(decode(&utf16(text, u16::to_le_bytes)), Err(NotUtf8::Utf16));
            assert_eq!(decode(&utf16(text, u16::to_be_bytes)), Err(NotUtf8::Utf16));
        }
        assert_eq!(decode(b"\xef\xbb\xbfa\xe4b"), Err(NotUtf8::Other { at: 4 }));
    }

    #[test]
    fn files_above_the_limit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, b"\xef\xbb\xbf[1]").unwrap();
        assert_eq!(read(&path, 6).unwrap(), "[1]");
        let error = read(&path, 5).unwrap_err().to_string();
        assert!(error.contains("more than 5 bytes"), "{error}");
    }
}
