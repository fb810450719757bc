use super::clip::VideoLimits;
use clap::ValueEnum;
use merv_host::features::StoreDtype;
use std::path::PathBuf;

/// Run the encoders over clips and keep their features
///
/// Training and evaluation then use these features and do not decode the videos.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("clips").required(true).multiple(true)))]
pub struct Encode {
    /// The clips and images of training data: JSON or JSONL, as described in configs/README.md (may be
    /// repeated)
    #[arg(long, value_name = "FILE", group = "clips")]
    pub data: Vec<PathBuf>,
    /// The folder that paths in the data are relative to; by default the folder of the data
    #[arg(long, value_name = "DIR", requires = "data")]
    pub media: Option<PathBuf>,
    /// Every video in a folder and its subfolders (may be repeated)
    #[arg(long, value_name = "DIR", group = "clips")]
    pub videos: Vec<PathBuf>,
    /// Videos, GIFs, still images, folders of images
    #[arg(long, value_name = "FILE", num_args = 1.., group = "clips")]
    pub video: Vec<PathBuf>,
    /// The folder for the features; it may already contain some
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How to store features; they are computed in f32
    #[arg(long, value_name = "DTYPE", default_value = "f16")]
    pub dtype: StoreDtypeChoice,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: VideoLimits,
}

/// Values of `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreDtypeChoice {
    /// Half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// Single precision, as they are computed.
    F32,
}

impl From<StoreDtypeChoice> for StoreDtype {
    fn from(choice: StoreDtypeChoice) -> Self {
        match choice {
            StoreDtypeChoice::F16 => Self::F16,
            StoreDtypeChoice::Bf16 => Self::Bf16,
            StoreDtypeChoice::F32 => Self::F32,
        }
    }
}
