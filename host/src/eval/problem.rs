//! A problem with an item of a benchmark.

use std::fmt;

/// A problem with an item of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file that contains the item.
    pub file: &'static str,
    /// The index of the item in the file, from 0.
    pub index: usize,
    /// A description of the problem.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, item {}: {}", self.file, self.index, self.what)
    }
}
