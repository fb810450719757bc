use super::numbers;
use std::path::PathBuf;

/// The video or image, and the part of it that is used.
#[derive(Debug, clap::Args)]
pub struct Clip {
    /// A video, an animation, a still image, or a folder of images; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub video: PathBuf,
    /// Ignore the video before this time, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = numbers::start)]
    pub start: Option<f64>,
    /// Ignore the video after this time, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = numbers::end)]
    pub end: Option<f64>,
    /// Frame rate of a folder of images; --start and --end refer to it
    #[arg(long, value_name = "FPS", allow_negative_numbers = true, value_parser = numbers::rate)]
    pub folder_fps: Option<f64>,
    #[command(flatten)]
    pub limits: VideoLimits,
}

/// Limits on what reading a file may cost. Files are not trusted.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on the video file")]
pub struct VideoLimits {
    /// Maximum number of pixels in a frame
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_pixels: Option<u64>,
    /// Maximum number of frames in the file
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_frames: Option<u64>,
    /// Maximum size of all sampled frames together, in bytes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_clip_bytes: Option<u64>,
    /// Maximum size of an image file, in bytes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_image_bytes: Option<u64>,
    /// Maximum number of pixels of an animation to compute for the sampled frames
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_animation_pixels: Option<u64>,
    /// Maximum size of all sampled frames of an animation together, in bytes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_animation_bytes: Option<u64>,
    /// Maximum number of pixels of a video to decode for the sampled frames
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_decoded_pixels: Option<u64>,
    /// Maximum size of a video from a pipe, in bytes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_pipe_bytes: Option<u64>,
}
