//! Reads the header of a GGUF file and checks every length against the bytes that remain.

/// The largest size of a header, in bytes. A vocabulary of 256,000 tokens takes about 15 MB.
const MAX_HEADER: usize = 1 << 26;

/// A position in the header.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Makes a cursor at the beginning of a file.
    pub fn new(bytes: &'a [u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(MAX_HEADER)];
        Self { bytes, at: 0 }
    }

    /// Returns the offset from the beginning of the file, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], String> {
        if length > self.remaining() {
            return Err(format!(
                "{what} takes {length} bytes, but its header has only {} more",
                self.remaining()
            ));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// Skips `length` bytes.
    pub fn skip(&mut self, length: usize) -> Result<(), String> {
        self.take(length, "the magic number").map(|_| ())
    }

    /// Reads `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// Reads a 32-bit unsigned integer.
    pub fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Reads a 64-bit unsigned integer.
    pub fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Checks a declared number of items, each of which takes at least `least` bytes.
    pub fn count(&self, what: &str, declared: u64, least: usize) -> Result<usize, String> {
        usize::try_from(declared)
            .ok()
            .filter(|&count| count <= self.remaining() / least)
            .ok_or_else(|| {
                format!(
                    "{declared} {what} are declared, but its header has only {} more bytes",
                    self.remaining()
                )
            })
    }

    /// Reads a string: its length, then its bytes.
    pub fn string(&mut self, what: &str) -> Result<&'a str, String> {
        let length = self.u64(what)?;
        let length = self.count("bytes of a string", length, 1)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| format!("{what} is not UTF-8: {error}"))
    }
}
