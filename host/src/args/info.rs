/// Show what a registry would load, without reading weights or downloading anything
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Also load the model, if all its files are on this machine; fails where `generate` would fail
    #[arg(long)]
    pub load: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
