use super::numbers;
use std::path::PathBuf;

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Clip {
    /// A video, an animation, a still image, or a folder of images; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub video: PathBuf,
    /// Look only at the video from here on, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = numbers::start)]
    pub start: Option<f64>,
    /// Look only at the video up to here, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = numbers::end)]
    pub end: Option<f64>,
    /// Frames per second of a folder of images, which start and end count by
    #[arg(long, value_name = "FPS", allow_negative_numbers = true, value_parser = numbers::rate)]
    pub folder_fps: Option<f64>,
    #[command(flatten)]
    pub limits: Limits,
}

/// What reading a file may cost: files are untrusted.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on the video file")]
pub struct Limits {
    /// Pixels of one frame at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_pixels: Option<u64>,
    /// Frames of the file at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_frames: Option<u64>,
    /// Bytes of all sampled frames together at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_clip_bytes: Option<u64>,
    /// Bytes of an image file at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_image_bytes: Option<u64>,
    /// Pixels of an animation to compute for the sampled frames at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_animation_pixels: Option<u64>,
    /// Bytes of all sampled frames of an animation together at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_animation_bytes: Option<u64>,
    /// Pixels of a video to decode for the sampled frames at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_decoded_pixels: Option<u64>,
    /// Bytes of a video from a pipe at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_pipe_bytes: Option<u64>,
}
