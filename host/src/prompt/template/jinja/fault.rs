//! Template errors, and the shared text type of values.

use std::sync::Arc;

/// An error in a template or while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Fault {
    /// The line of the template, if it is known yet.
    pub line: Option<usize>,
    /// What is wrong.
    pub why: String,
}

impl Fault {
    pub(super) fn new(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { line: None, why }
    }

    /// Sets the line, unless it is already set.
    pub(super) fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

/// Shared text.
pub(super) type Text = Arc<str>;
