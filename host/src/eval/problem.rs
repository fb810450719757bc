//! What is wrong with an item of a benchmark.

use std::fmt;

/// What is wrong with an item of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file that it stands in.
    pub file: &'static str,
    /// Which item of the file, from 0 on.
    pub index: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, item {}: {}", self.file, self.index, self.what)
    }
}
