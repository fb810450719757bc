//! The options of an evaluation, and the trait that observes a run.

use super::task::{Failure, Strategy, Task};
use crate::{AnswerOptions, features::FeatureCache, generate, video};
use std::{path::PathBuf, sync::Arc};

/// How the original finds the frames of a window. The same method keeps the results comparable.
pub(super) const SECONDS: video::Seconds = video::Seconds::AverageRate;

/// The options of an evaluation.
#[derive(Clone)]
pub struct RunOptions {
    /// The task.
    pub task: Task,
    /// How an option is chosen.
    pub strategy: Strategy,
    /// The folder that contains the benchmarks.
    pub data_dir: PathBuf,
    /// The name of the benchmark.
    pub benchmark: String,
    /// The folder for the predictions.
    pub out: PathBuf,
    /// The number of chunks.
    pub num_chunks: usize,
    /// The index of this chunk.
    pub chunk_idx: usize,
    /// How answers are generated.
    pub answers: AnswerOptions,
    /// The maximum number of answers that are generated at the same time.
    pub batch_size: usize,
    /// The fraction of the clips that may be unusable.
    pub max_bad_fraction: f64,
    /// Frames per second of folders of images.
    pub folder_fps: f64,
    /// Limits on the cost of reading a video.
    pub limits: video::ReadLimits,
    /// The cache of encoder features.
    pub features: Option<Arc<FeatureCache>>,
}

impl RunOptions {
    /// Returns the default answer options of the original: greedy decoding, 512 tokens.
    pub fn default_answers() -> AnswerOptions {
        AnswerOptions {
            sampling: crate::Sampling::default(),
            limits: generate::ReplyLimits::default(),
        }
    }
}

/// Observes an evaluation.
pub trait EvalObserver {
    /// `done` of `total` clips are done, and the clip `next` follows.
    fn clip(&mut self, done: usize, total: usize, next: &str);
    /// A clip or a question cannot be used.
    fn failed(&mut self, failure: &Failure);
    /// The user should know this.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }
}
