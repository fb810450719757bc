use merv_host::train::TrainingStage;
use std::path::PathBuf;

/// Train a model: mixer, language model and encoders, stage after stage
///
/// What is trained and how stands in a settings file; configs/ has some, and a README that says what each
/// key means. The run's folder is a registry that `generate` takes.
#[derive(Debug, clap::Args)]
pub struct Train {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What is trained: align, full-align, finetune, second_finetune or full-finetune
    #[arg(long, value_name = "STAGE")]
    pub stage: TrainingStage,
    /// The folder of the run
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Begin from the model that an earlier run left, instead of the settings' registry
    #[arg(long, value_name = "RUN")]
    pub from: Option<PathBuf>,
    /// Go on with the run in --out, from its last checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Set a key of the settings (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
