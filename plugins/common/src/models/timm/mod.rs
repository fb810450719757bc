//! timm's vision transformers: their sizes, the arguments that set them, and the `config.json` that contains
//! both.

mod arguments;
pub(crate) mod config;
mod model;

pub use arguments::Arguments;
pub use config::{Pool, VitConfig, VitFeatures, VitVariant};
pub use model::{PretrainedConfig, TimmConfig, TimmModel, resolve};
