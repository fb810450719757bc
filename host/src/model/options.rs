//! What of a video is looked at, and how an answer is made.

use crate::{Sampling, generate, video};
use std::path::PathBuf;

/// What of a video is looked at.
#[derive(Debug, Clone, Default)]
pub struct VideoOptions {
    /// Where to begin, in seconds.
    pub start: Option<f64>,
    /// Where to end, in seconds.
    pub end: Option<f64>,
    /// When not negative: frames up to this one, whatever start and end say.
    pub end_frame: Option<i64>,
    /// Frames per second of a folder of images.
    pub folder_fps: Option<f64>,
    /// What start and end mean in a video of variable frame rate.
    pub seconds: video::Seconds,
    /// What reading the file may cost.
    pub limits: video::ReadLimits,
}

/// How an answer is made.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// What of the video is looked at.
    pub video: VideoOptions,
    /// How tokens are picked.
    pub sampling: Sampling,
    /// How long the answer may and must be.
    pub limits: generate::ReplyLimits,
    /// Where to write everything between video and first token, as safetensors.
    pub dump: Option<PathBuf>,
}
