//! What a run tells whoever watches it, and how it ended.

use super::StepMetrics;
use crate::Observer;
use serde::Serialize;

/// Watches a run. All methods may be left out.
pub trait TrainObserver: Observer {
    /// Steps begin; `done` of `total` were done before.
    fn begin(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// A step was done.
    fn step(&mut self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// Something that should be known.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }

    /// Something that went wrong, though the run goes on.
    fn warning(&mut self, text: &str) {
        self.notice(text);
    }
}

impl TrainObserver for () {}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Steps that were done, all runs together.
    pub steps: u64,
    /// Steps that are to be done.
    pub total_steps: u64,
    /// Whether it was stopped before that.
    pub stopped: bool,
    /// The loss of the last step that had one.
    pub loss: Option<f64>,
    /// The loss on the held-out examples, as it was computed last.
    pub validation_loss: Option<f64>,
    /// Examples that turned out broken.
    pub broken_examples: usize,
    /// Examples of the data set.
    pub examples: usize,
}
