use std::path::PathBuf;

/// Answer a question about a video, or describe it
///
/// The answer goes to standard output as it is made, everything else to standard error.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// A video, a GIF, a still image, or a folder of images
    #[arg(long, value_name = "FILE")]
    pub video: PathBuf,
    /// What to ask
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    /// Tokens of the answer at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 512,
        allow_negative_numbers = true
    )]
    pub max_new_tokens: usize,
    /// 0 always takes the likeliest token; higher values are freer
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub top_p: f64,
    /// Draw only from this many of the likeliest tokens; 0 is off
    #[arg(
        long,
        value_name = "K",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub top_k: usize,
    /// The same seed gives the same answer
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub seed: u64,
    /// No end before prompt and answer together have this many tokens
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub min_length: usize,
    /// No end before the answer has this many tokens
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub min_new_tokens: usize,
    /// Look only at the video from here on, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub start: Option<f64>,
    /// Look only at the video up to here, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub end: Option<f64>,
    /// Print one JSON object instead of the bare answer
    #[arg(long)]
    pub json: bool,
    /// Show how much each encoder counted
    #[arg(long)]
    pub show_mixer: bool,
    /// Write everything between the video and the first token to a safetensors file
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
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
    /// Bytes of a still image's file at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_image_bytes: Option<u64>,
}
