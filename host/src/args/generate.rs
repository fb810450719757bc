use super::{answer::Answer, clip::Clip};
use std::path::PathBuf;

/// Answer a question about a video, or describe it
///
/// The answer is printed to standard output while it is generated, everything else to standard error.
#[derive(Debug, clap::Args)]
pub struct Generate {
    #[command(flatten)]
    pub clip: Clip,
    /// The question
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    #[command(flatten)]
    pub answer: Answer,
    /// Print one JSON object instead of the text of the answer
    #[arg(long)]
    pub json: bool,
    /// Show how much each encoder counted
    #[arg(long)]
    pub show_mixer: bool,
    /// Write everything between the video and the first token to a safetensors file
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
}
