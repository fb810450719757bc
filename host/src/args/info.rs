/// Show what a registry would load, without reading any weights
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
