//! Arguments that the parser of the command line cannot judge.

use merv_host::eval::EvalError;
use std::{error::Error, fmt};

/// An error of the command line itself: the program exits with 2.
#[derive(Debug)]
pub struct BadArgument(Box<dyn Error>);

impl BadArgument {
    /// What is wrong with an argument.
    pub fn new(error: impl Into<Box<dyn Error>>) -> Self {
        Self(error.into())
    }

    /// What stopped an evaluation, if an argument alone is to blame; else the error as it is.
    pub fn of_eval(error: EvalError) -> Box<dyn Error> {
        match error {
            EvalError::NotAName(_) | EvalError::NoChunk { .. } => Box::new(Self::new(error)),
            error => error.into(),
        }
    }
}

impl fmt::Display for BadArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BadArgument {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
