use merv_host::train::TrainingStage;
use std::path::PathBuf;

/// Train a model: mixer, language model and encoders, stage after stage
///
/// A settings file states what is trained and how. configs/ has examples, and configs/README.md describes
/// every key. The run writes RUN/registry.toml, which `generate --registry` uses.
#[derive(Debug, clap::Args)]
pub struct Train {
    /// The settings file; with --resume, by default the run's own settings
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Which stage to run: align, full-align, finetune, second_finetune or full-finetune
    #[arg(long, value_name = "STAGE", required_unless_present = "resume")]
    pub stage: Option<TrainingStage>,
    /// The folder of the run; not needed for a --dry-run of a new one
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Start from the model of an earlier run instead of the settings' registry
    #[arg(long, value_name = "RUN")]
    pub from: Option<PathBuf>,
    /// Resume the run in --out from its last checkpoint, with its settings
    ///
    /// No other option is needed. Options that are given must agree with the run, except for its length
    /// (`epochs`, `max_steps`) and for settings that do not change the results.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Set a key of the settings (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Make the checks of a run, show steps, memory and what is trained, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
