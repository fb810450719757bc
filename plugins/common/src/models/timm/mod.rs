//! timm's vision transformers: their sizes by timm's names, the arguments that set them, and the
//! `config.json` that holds both.

mod arguments;
pub(crate) mod config;
mod model;

pub use arguments::Arguments;
pub use config::{Pool, VitConfig, VitFeatures, VitVariant};
pub use model::{PretrainedConfig, TimmConfig, TimmModel, resolve};
