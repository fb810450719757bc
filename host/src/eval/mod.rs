//! Evaluation on question-answering benchmarks, with the original's files and protocol.
//!
//! [`dataset`] reads a benchmark; [`mod@run`] asks its questions, a clip at a time and many answers at once;
//! [`store`] keeps the predictions, safe against kills and between processes; [`score`] and [`interval`]
//! judge them without a judge, [`judge`] with one; [`report`] puts the result together, [`compare`]
//! compares two, and [`table`] shows several beside each other.

mod clips;
pub mod compare;
pub mod dataset;
mod error;
pub mod interval;
mod json;
pub mod judge;
mod judge_error;
mod likelihood;
mod options;
mod problem;
pub mod protocol;
pub mod report;
pub mod run;
pub mod score;
mod settings;
pub mod store;
pub mod table;
mod task;
mod unusable;
mod videos;

pub use dataset::{Dataset, Question};
pub use error::EvalError;
pub use options::{EvalObserver, RunOptions};
pub use report::EvalReport;
pub use run::{RunOutcome, run};
pub use task::{Failure, Strategy, Task};
