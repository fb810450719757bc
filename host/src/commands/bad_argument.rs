//! Errors of arguments that clap cannot check.

use merv_host::eval::EvalError;
use std::{error::Error, fmt};

/// An error of the command line. The program exits with 2.
#[derive(Debug)]
pub struct BadArgument(Box<dyn Error>);

impl BadArgument {
    /// Wraps the error of an argument.
    pub fn new(error: impl Into<Box<dyn Error>>) -> Self {
        Self(error.into())
    }

    /// Wraps the error of an evaluation if an argument caused it. Returns other errors unchanged.
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
