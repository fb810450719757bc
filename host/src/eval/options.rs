//! What is evaluated, how, and who watches.

use super::task::{Failure, Strategy, Task};
use crate::{AnswerOptions, features::FeatureCache, generate, video};
use std::{path::PathBuf, sync::Arc};

/// How the original finds the frames of a window; results are compared with its own.
pub(super) const SECONDS: video::Seconds = video::Seconds::AverageRate;

/// What is evaluated, and how.
#[derive(Clone)]
pub struct RunOptions {
    /// What is asked.
    pub task: Task,
    /// How an option is chosen.
    pub strategy: Strategy,
    /// Where benchmarks are.
    pub data_dir: PathBuf,
    /// The benchmark.
    pub benchmark: String,
    /// Where predictions go.
    pub out: PathBuf,
    /// How many chunks there are.
    pub num_chunks: usize,
    /// Which of them this is.
    pub chunk_idx: usize,
    /// How answers are made.
    pub answers: AnswerOptions,
    /// Answers that are made at once, at most.
    pub batch_size: usize,
    /// The part of the clips that may be unusable.
    pub max_bad_fraction: f64,
    /// Frames per second of folders of images.
    pub folder_fps: f64,
    /// What reading a video may cost.
    pub limits: video::Limits,
    /// Where encoders' features are kept.
    pub features: Option<Arc<FeatureCache>>,
}

impl RunOptions {
    /// What the original does where nothing else is said: greedy, 512 tokens.
    pub fn default_answers() -> AnswerOptions {
        AnswerOptions {
            sampling: crate::Sampling::default(),
            limits: generate::ReplyLimits::default(),
        }
    }
}

/// Watches a run.
pub trait EvalObserver {
    /// So many of so many clips are done, and this one is next.
    fn clip(&mut self, done: usize, total: usize, next: &str);
    /// A clip or question cannot be used.
    fn failed(&mut self, failure: &Failure);
    /// Something that should be known.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }
}
