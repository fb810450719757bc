//! Reads the header of a GGUF file, checking every length against what is left of it.

/// Bytes of metadata and descriptions at most. A vocabulary of 256,000 tokens takes about 15 MB.
const MAX_HEADER: usize = 1 << 26;

/// A place in the header.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of a file.
    pub fn new(bytes: &'a [u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(MAX_HEADER)];
        Self { bytes, at: 0 }
    }

    /// Bytes from the beginning of the file.
    pub fn position(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], String> {
        if length > self.left() {
            return Err(format!(
                "{what} takes {length} bytes, but only {} of its header are left",
                self.left()
            ));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// Passes over `length` bytes.
    pub fn skip(&mut self, length: usize) -> Result<(), String> {
        self.take(length, "the magic").map(|_| ())
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// An unsigned number.
    pub fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// An unsigned number.
    pub fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A declared number of things, each of which takes `least` bytes at least.
    pub fn count(&self, what: &str, declared: u64, least: usize) -> Result<usize, String> {
        usize::try_from(declared)
            .ok()
            .filter(|&count| count <= self.left() / least)
            .ok_or_else(|| {
                format!(
                    "{declared} {what} are declared, but only {} bytes of its header are left",
                    self.left()
                )
            })
    }

    /// A string: its length, then its bytes.
    pub fn string(&mut self, what: &str) -> Result<&'a str, String> {
        let length = self.u64(what)?;
        let length = self.count("bytes of a string", length, 1)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| format!("{what} is no UTF-8: {error}"))
    }
}
