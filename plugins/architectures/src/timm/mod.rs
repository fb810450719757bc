//! timm's vision transformers: their sizes, the arguments that set them, and the `config.json` that contains
//! both.

mod arguments;
mod config;
mod model;
mod tensors;

pub use arguments::Arguments;
pub use config::{POSITIONS, Pool, VitConfig, VitFeatures, VitVariant};
pub use model::{PretrainedConfig, TimmConfig, TimmModel, resolve};
pub use tensors::{root, unused};
