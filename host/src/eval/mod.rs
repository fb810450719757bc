//! Evaluation on question-answering benchmarks, with the files and the protocol of the original.
//!
//! [`dataset`] reads a benchmark. [`mod@run`] asks its questions clip by clip and generates answers in batches.
//! [`store`] keeps the predictions; it survives kills and several processes can share it. [`score`] and
//! [`interval`] score predictions without a judge, [`judge`] with one. [`report`] assembles the result,
//! [`compare`] compares two results, and [`table`] shows several of them side by side.

mod clips;
pub mod compare;
pub mod dataset;
mod error;
mod files;
pub mod interval;
mod json;
pub mod judge;
mod judge_error;
mod likelihood;
mod options;
mod problem;
pub mod predictions;
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
