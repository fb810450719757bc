//! Observing progress and generated text.

use serde::Serialize;

/// Receives progress and generated text. Every method has an empty default.
pub trait Observer {
    /// Reports the progress of a stage: `done` of `total` parts are finished, and work on `what` begins.
    fn progress(&mut self, stage: Stage, what: &str, done: usize, total: usize) {
        let _ = (stage, what, done, total);
    }

    /// Reports a new piece of the answer.
    fn text(&mut self, text: &str) {
        let _ = text;
    }
}

/// An observer that ignores everything.
impl Observer for () {}

/// A stage of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Downloading files. The parts are bytes.
    Fetch,
    /// Loading weights.
    Load,
    /// Decoding the video into frames.
    Decode,
    /// Transforming frames into clips.
    Transform,
    /// Encoding clips into features.
    Encode,
    /// Mixing features into visual tokens.
    Mix,
    /// Reading the prompt into the language model.
    Prefill,
    /// Generating tokens.
    Generate,
}
