//! Watching the work as it goes on.

use serde::Serialize;

/// Watches the work. All methods may be left out.
pub trait Observer {
    /// Part `done` of `total` of `stage` begins, and is about `what`.
    fn progress(&mut self, stage: Stage, what: &str, done: usize, total: usize) {
        let _ = (stage, what, done, total);
    }

    /// The answer has grown by `text`.
    fn text(&mut self, text: &str) {
        let _ = text;
    }
}

/// Watches nothing.
impl Observer for () {}

/// A stage of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Downloading files; its parts are bytes.
    Fetch,
    /// Opening weights.
    Load,
    /// Video to frames.
    Decode,
    /// Frames to clips.
    Transform,
    /// Clips to features.
    Encode,
    /// Features to visual tokens.
    Mix,
    /// Prompt into the language model.
    Prefill,
    /// Token after token.
    Generate,
}
