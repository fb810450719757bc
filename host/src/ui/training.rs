//! The progress of a training run.

use super::progress::{Bar, Ui};
use indicatif::ProgressStyle;
use merv_host::{
    Observer, Stage,
    train::{StepMetrics, TrainObserver},
};

/// The style of the bar: loss, learning rate and speed next to it. `eta` is the remaining time.
const STEPS: &str = "{spinner} {prefix:<10} {bar:20} {pos}/{len}, {eta} left: {msg}";

/// A progress bar of steps on standard error. It is hidden if that is not a terminal.
pub struct TrainingBar {
    ui: Ui,
    bar: Bar,
    total: u64,
}

impl TrainingBar {
    /// Creates a bar that shows nothing yet.
    pub fn new(ui: Ui) -> Self {
        Self {
            ui,
            bar: ui.bar(),
            total: 0,
        }
    }
}

impl Observer for TrainingBar {
    fn progress(&mut self, stage: Stage, what: &str, done: usize, total: usize) {
        self.bar.progress(stage, what, done, total);
    }
}

impl TrainObserver for TrainingBar {
    fn begin(&mut self, done: u64, total: u64) {
        self.total = total;
        if let Ok(style) = ProgressStyle::with_template(STEPS) {
            self.bar.bar.set_style(style);
        }
        self.bar.show("training", "", done, total);
        // The speed before the run was resumed does not predict the remaining time.
        self.bar.bar.reset_eta();
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let held_out = metrics.validation_loss;
        let held_out = held_out.map_or(String::new(), |loss| format!(", {loss:.4} held out"));
        let message = format!(
            "loss {:.4}{held_out}, rate {:.2e}, {:.0} tokens/s",
            metrics.loss, metrics.learning_rate, metrics.tokens_per_second
        );
        self.bar
            .show("training", &message, metrics.step, self.total);
    }

    fn notice(&mut self, text: &str) {
        self.bar.suspend(|| self.ui.warn(text));
    }

    fn warning(&mut self, text: &str) {
        self.bar.suspend(|| self.ui.warn_always(text));
    }
}
