//! What is asked of a model, and what becomes of a question that could not be asked.

use crate::messages::escaped;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is asked and how it is scored.
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
    /// What file names call it: the original's only strategy is `naive`, and its tools look for that.
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
    /// The question.
    pub question_id: String,
    /// Its video.
    pub video_name: String,
    /// Why not.
    pub error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", escaped(&self.video_name), self.error)
    }
}
