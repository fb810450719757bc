use merv_host::train::TrainingStage;
use std::path::PathBuf;

/// Train a model: mixer, language model and encoders, stage after stage
///
/// What is trained and how stands in a settings file; configs/ has some, and a README that says what each
/// key means. The run's folder is a registry that `generate` takes.
#[derive(Debug, clap::Args)]
pub struct Train {
    /// The settings file; with --resume, the run's own settings if left out
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// What is trained: align, full-align, finetune, second_finetune or full-finetune
    #[arg(long, value_name = "STAGE", required_unless_present = "resume")]
    pub stage: Option<TrainingStage>,
    /// The folder of the run
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Begin from the model that an earlier run left, instead of the settings' registry
    #[arg(long, value_name = "RUN")]
    pub from: Option<PathBuf>,
    /// Go on with the run in --out, from its last checkpoint and with its settings
    ///
    /// Nothing has to be said again. What is said has to agree with the run, but for its length (`epochs`,
    /// `max_steps`) and settings that change nothing of what is computed.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Set a key of the settings (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Check what a run checks and show what it would do, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
