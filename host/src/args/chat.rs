use super::{answer::Answer, clip::Clip};

/// Hold a conversation about a video; every line of standard input is a message
///
/// Replies are printed to standard output while they are generated, everything else to standard error. The
/// video is encoded only once. `/reset` forgets the conversation. `/quit` or the end of the input ends it.
#[derive(Debug, clap::Args)]
pub struct Chat {
    #[command(flatten)]
    pub clip: Clip,
    #[command(flatten)]
    pub answer: Answer,
    /// Print one JSON object with all turns at the end, instead of the text of the replies
    #[arg(long)]
    pub json: bool,
}
