//! The problems of a settings file: the line, what was expected, what was found and what to do.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The maximum number of problems that are printed. The first ones often cause the rest.
const SHOWN_PROBLEMS: usize = 40;

/// Everything that is wrong with one settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub path: PathBuf,
    /// The problems, in the order of the file's lines.
    pub list: Vec<Problem>,
}

/// One problem of a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, counted from 1.
    pub line: Option<usize>,
    /// What is wrong, in one line.
    pub what: String,
    /// For syntax errors, the line of the file with a caret below it.
    pub snippet: Option<String>,
    /// What was expected.
    pub expected: Option<String>,
    /// What was found.
    pub found: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(line: impl Into<Option<usize>>, what: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            what: what.into(),
            snippet: None,
            expected: None,
            found: None,
            hint: None,
        }
    }

    pub(crate) fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    pub(crate) fn found(mut self, text: impl Into<String>) -> Self {
        self.found = Some(text.into());
        self
    }

    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    pub(crate) fn snippet(mut self, text: String) -> Self {
        self.snippet = Some(text);
        self
    }
}

impl Problems {
    pub(crate) fn new(path: &Path, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.line);
        Self {
            path: path.to_owned(),
            list,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.list.len() > 1 {
            writeln!(f, "{path}: {} problems", self.list.len())?;
        }
        for (i, problem) in self.list.iter().take(SHOWN_PROBLEMS).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match problem.line {
                Some(line) => write!(f, "{path}:{line}: {}", problem.what)?,
                None => write!(f, "{path}: {}", problem.what)?,
            }
            if let Some(snippet) = &problem.snippet {
                write!(f, "\n{snippet}")?;
            }
            for (label, text) in [
                ("expected", &problem.expected),
                ("found", &problem.found),
                ("do", &problem.hint),
            ] {
                if let Some(text) = text {
                    write!(f, "\n  {label}: {text}")?;
                }
            }
        }
        if self.list.len() > SHOWN_PROBLEMS {
            write!(f, "\n… and {} more", self.list.len() - SHOWN_PROBLEMS)?;
        }
        Ok(())
    }
}
