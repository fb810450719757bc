/// List the plugins that are found, and whether each can be loaded
#[derive(Debug, clap::Args)]
pub struct Plugins {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
