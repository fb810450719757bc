//! What goes wrong in a template, and the text that its values share.

use std::sync::Arc;

/// What is wrong with a template, or with what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Fault {
    /// The line of the template, once it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub why: String,
}

impl Fault {
    pub(super) fn new(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { line: None, why }
    }

    /// The same at a line, unless it has one.
    pub(super) fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

/// Text that is shared.
pub(super) type Text = Arc<str>;
