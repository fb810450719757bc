//! What can be wrong with a registry, and how it is shown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub(crate) use crate::shown::shown;

/// More problems than this are counted, not printed: the first ones usually cause the rest.
const SHOWN_PROBLEMS: usize = 40;

/// A registry could not be found, read, or accepted.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No registry file goes by this name.
    #[error("{}", not_found(.name, .looked, .near, .known))]
    NotFound {
        /// What the user asked for.
        name: PathBuf,
        /// Every path that was tried.
        looked: Vec<PathBuf>,
        /// Registries whose names are close to the one asked for.
        near: Vec<String>,
        /// Every registry that could have been named.
        known: Vec<String>,
    },
    /// The file could not be read.
    #[error("{}: cannot read the registry file\n  expected: a readable TOML file\n  \
             do: check that the path is right and that you may read it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file was read, and something in it is wrong.
    #[error("{0}")]
    Invalid(Problems),
}

/// Everything that is wrong with one registry file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The registry file.
    pub path: PathBuf,
    /// The problems, in the order of the file's lines.
    pub list: Vec<Problem>,
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, counted from 1.
    pub line: Option<usize>,
    /// What is wrong, in one line.
    pub what: String,
    /// The offending line of the file with a caret below it, for syntax errors.
    pub snippet: Option<String>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What is there instead.
    pub found: Option<String>,
    /// What the reader of the message should do.
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

impl From<Problems> for RegistryError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
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

/// `a`, `b` and so on, as messages list them.
pub(crate) fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(", ")
}

fn not_found(name: &Path, looked: &[PathBuf], near: &[String], known: &[String]) -> String {
    let mut out = format!(
        "{}: there is no such registry\n  looked for:",
        name.display()
    );
    for path in looked {
        out.push_str(&format!("\n    {}", path.display()));
    }
    if !near.is_empty() {
        out.push_str(&format!("\n  did you mean: {}", listed(near)));
    }
    if !known.is_empty() {
        out.push_str(&format!("\n  known: {}", listed(known)));
    }
    out.push_str(
        "\n  do: give the path of a registry file (*.toml), one of the known names, \
         or add its folder to MERV_REGISTRY_PATH",
    );
    if known.is_empty() {
        out.push_str(
            ". merv-host's own registries are found when the folder it was installed into \
             (`make install PREFIX=DIR`) is in MERV_PREFIX, or the program merv-host in PATH",
        );
    }
    out
}
