pub(crate) mod error;
pub(crate) mod text;
pub(crate) mod host;
mod tapes;
mod sessions;
mod training;
#[cfg_attr(next_minor, path = "encoder_2_1.rs")]
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
