use std::path::PathBuf;

/// Draw the curves of a training run: loss, learning rate, gradient norm, speed, mixer weights
#[derive(Debug, clap::Args)]
pub struct Plot {
    /// The run's folder, or its metrics.jsonl
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// A folder for curves.svg and curves.png, or one file that ends in .svg or .png; by default the run's
    /// folder
    #[arg(long, value_name = "DIR|FILE")]
    pub out: Option<PathBuf>,
}
