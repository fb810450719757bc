/// List the plugins on the plugin path, and whether each can be loaded
#[derive(Debug, clap::Args)]
pub struct Plugins {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
