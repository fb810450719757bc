//! What crosses the boundary, in types of `abi_stable`. Authors of plugins do not need it: everything here is an
//! adapter of an ordinary trait, so that another crate could take the place of `abi_stable` without a change of theirs.

pub(crate) mod error;
pub(crate) mod text;
pub(crate) mod host;
mod tapes;
mod sessions;
mod training;
mod encoder;
mod llm;
mod device_service;
mod mixer;
mod collective;

pub use abi_stable;
pub use collective::CollectiveObject;
pub use device_service::DeviceServiceObject;
pub use encoder::{EncoderObject, FeaturesAndTape};
pub use llm::LanguageModelObject;
pub use mixer::MixerObject;
pub use tapes::TapeId;
pub use training::TrainableObject;
