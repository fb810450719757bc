use super::clip::Limits;
use clap::ValueEnum;
use merv_host::features::StoreDtype;
use std::path::PathBuf;

/// Run the encoders over clips and keep their features
///
/// Training and evaluation find them then, and do not even decode the video.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("clips").required(true).multiple(true)))]
pub struct Encode {
    /// The clips and images of training data: JSON or JSONL, as configs/README.md says (may be repeated)
    #[arg(long, value_name = "FILE", group = "clips")]
    pub data: Vec<PathBuf>,
    /// Where the paths in the data begin; by default the folder of the data
    #[arg(long, value_name = "DIR", requires = "data")]
    pub media: Option<PathBuf>,
    /// Every video in a folder and those below it (may be repeated)
    #[arg(long, value_name = "DIR", group = "clips")]
    pub videos: Vec<PathBuf>,
    /// Videos, GIFs, still images, folders of images
    #[arg(long, value_name = "FILE", num_args = 1.., group = "clips")]
    pub video: Vec<PathBuf>,
    /// The folder to keep features in; it may hold others already
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep features so
    #[arg(long, value_name = "DTYPE", default_value = "f16")]
    pub dtype: Store,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: Limits,
}

/// What `--dtype` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// Half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// Single precision: as they were computed.
    F32,
}

impl From<Store> for StoreDtype {
    fn from(store: Store) -> Self {
        match store {
            Store::F16 => Self::F16,
            Store::Bf16 => Self::Bf16,
            Store::F32 => Self::F32,
        }
    }
}
