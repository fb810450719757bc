//! The task of an evaluation, and the record of a question that could not be asked.

use crate::messages::escaped;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of question that is asked, which determines how answers are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A question with a free answer.
    OpenEnded,
    /// A question with options.
    MultipleChoice,
}

/// How an option is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The first letter of the reply, as the original does.
    Letter,
    /// The likeliest letter.
    Likelihood,
    /// Both, side by side.
    Both,
}

impl Strategy {
    /// Returns the name in file names. The original has one strategy, `naive`, and its tools expect that name.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Letter | Self::Both => "naive",
            Self::Likelihood => "likelihood",
        }
    }
}

/// A question that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The id of the question.
    pub question_id: String,
    /// The name of its video.
    pub video_name: String,
    /// The reason.
    pub error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", escaped(&self.video_name), self.error)
    }
}
