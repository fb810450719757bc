use super::{answer::Answer, clip::Clip};

/// Talk about a video: every line of standard input is a message
///
/// The replies go to standard output as they are made, everything else to standard error. The video is
/// looked at once. `/reset` forgets what was said, `/quit` or the end of the input ends.
#[derive(Debug, clap::Args)]
pub struct Chat {
    #[command(flatten)]
    pub clip: Clip,
    #[command(flatten)]
    pub answer: Answer,
    /// Print one JSON object with all turns at the end instead of the bare replies
    #[arg(long)]
    pub json: bool,
}
