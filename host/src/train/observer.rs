//! The observer of a run, and the summary of its result.

use super::StepMetrics;
use crate::Observer;
use serde::Serialize;

/// Observes a run. Every method has a default that does nothing or calls another method.
pub trait TrainObserver: Observer {
    /// Training starts. `done` of `total` steps were completed earlier.
    fn begin(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// A step was completed.
    fn step(&mut self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// Information about the run.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }

    /// A problem that does not stop the run.
    fn warning(&mut self, text: &str) {
        self.notice(text);
    }
}

impl TrainObserver for () {}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The number of completed steps, including those before the run was resumed.
    pub steps: u64,
    /// The number of steps of the whole run.
    pub total_steps: u64,
    /// Whether the run was stopped before its last step.
    pub stopped: bool,
    /// The loss of the last step that has one.
    pub loss: Option<f64>,
    /// The last loss that was computed on the held-out examples.
    pub validation_loss: Option<f64>,
    /// The number of broken examples that were found.
    pub broken_examples: usize,
    /// The number of examples in the data set.
    pub examples: usize,
}
