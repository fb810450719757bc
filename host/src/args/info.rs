/// Show what a registry would load, without reading any weights
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Load the model too, as `generate` would, to see that its files hold what they should
    #[arg(long)]
    pub load: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
