//! Options: the part of a video that is read, and how an answer is generated.

use crate::{Sampling, generate, video};
use std::path::PathBuf;

/// The part of a video that is read.
#[derive(Debug, Clone, Default)]
pub struct VideoOptions {
    /// The start, in seconds.
    pub start: Option<f64>,
    /// The end, in seconds.
    pub end: Option<f64>,
    /// If not negative, the last frame. It overrides `start` and `end`.
    pub end_frame: Option<i64>,
    /// The frame rate of a folder of images, in frames per second.
    pub folder_fps: Option<f64>,
    /// The meaning of `start` and `end` in a video with a variable frame rate.
    pub seconds: video::Seconds,
    /// The limits on time and memory for reading the file.
    pub limits: video::ReadLimits,
}

/// How an answer is generated.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// The part of the video that is read.
    pub video: VideoOptions,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// The minimum and maximum length of the answer.
    pub limits: generate::ReplyLimits,
    /// The safetensors file for a dump of all intermediate results up to the first token.
    pub dump: Option<PathBuf>,
}
