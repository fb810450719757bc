use clap::ValueEnum;
use merv_host::synth;
use std::path::PathBuf;

/// Make a data set of clips of moving shapes, with captions, questions and answers
///
/// It has training data and a benchmark. The same seed gives the same data.
#[derive(Debug, clap::Args)]
pub struct Synth {
    /// The folder to create
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number of clips in each split
    #[arg(long, value_name = "N")]
    pub clips: usize,
    /// The same seed gives the same data
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Which split to make: training data, a held-out benchmark, or both
    #[arg(long, value_name = "SPLIT", default_value = "both")]
    pub split: SplitChoice,
    /// Width and height of the clips, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    pub size: usize,
    /// Overwrite what an earlier run left in the folder
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Values of `--split`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitChoice {
    /// train.json, open.json, captions.json and videos/
    Train,
    /// eval_data/shapes-mcq/ and eval_data/shapes-open/
    HeldOut,
    /// Both
    Both,
}

impl SplitChoice {
    /// Returns the splits to make.
    pub fn splits(self) -> Vec<synth::Split> {
        match self {
            Self::Train => vec![synth::Split::Train],
            Self::HeldOut => vec![synth::Split::HeldOut],
            Self::Both => vec![synth::Split::Train, synth::Split::HeldOut],
        }
    }
}
