//! A registry file describes a complete video-language model: the encoders, the language model, how frames
//! become clips and how features become tokens.
//!
//! A registry is read in four stages, each in its own file: [`find()`] turns a FILE or NAME into a path,
//! `document` reads the TOML, `schema` reads the keys as written, and `resolve` checks them and fills in paths
//! and defaults. Nothing later reads TOML again. All problems of a file are collected and reported together.
//!
//! Weights are not read here. [`Registry::check_tokens`] uses the descriptions of the plugins to check
//! whether the parts fit together, before any weights are loaded.

mod entries;
mod error;
mod fields;
mod file_names;
mod find;
mod mixer_weights;
mod moved;
mod placement;
mod request_context;
mod resolve;
mod schema;
mod source_fields;
mod sources;
mod tokens;

#[cfg(test)]
mod tests;

pub use crate::disk::digest::Sha256Digest;
pub use crate::settings_file::{Problem, Problems};
pub(crate) use entries::TableLines;
pub use entries::{
    EncoderEntry, FusionEntry, LlmEntry, MixerEntry, MixerInit, MixerReuse, MixerWeights,
    PluginRef, PromptEntry, Registry, TransformEntry,
};
pub use error::RegistryError;
pub(crate) use file_names::file_name;
pub(crate) use find::FILE_OF_A_RUN;
pub use find::{DEFAULT_REGISTRY, SearchPath, find};
pub use merv_architectures::mixer::{FusionKind, MixerKind, Mlp, Pooling, ProjectorKind};
pub(crate) use moved::{Moved, MovedFile, Renamed};
pub use placement::{DeviceChoice, DtypeChoice};
pub(crate) use request_context::RequestContext;
pub(crate) use sources::verify;
pub use sources::{SourceError, WeightSource};
pub use tokens::DescribedEncoder;
