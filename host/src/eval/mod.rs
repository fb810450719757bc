//! Evaluation on question-answering benchmarks, with the original's files and protocol.
//!
//! [`dataset`] reads a benchmark; [`mod@run`] asks its questions, a clip at a time and many answers at once;
//! [`store`] keeps the predictions, safe against kills and between processes; [`score`] and [`interval`]
//! judge them without a judge, [`judge`] with one; [`report`] puts the result together, [`compare`]
//! compares two, and [`table`] shows several beside each other.

mod bad;
mod clips;
pub mod compare;
pub mod dataset;
mod error;
pub mod interval;
mod json;
pub mod judge;
mod likelihood;
pub mod protocol;
pub mod report;
pub mod run;
pub mod score;
mod settings;
pub mod store;
pub mod table;
mod videos;

pub use dataset::{Dataset, Question, Task};
pub use error::EvalError;
pub use report::Report;
pub use run::{RunOptions, RunOutcome, Watch, run};

use crate::messages::escaped;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    fn file_name(self) -> &'static str {
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
