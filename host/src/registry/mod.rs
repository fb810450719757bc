//! A registry file is one complete video-language model: which encoders, which language model,
//! how frames become clips and how features become tokens.
//!
//! Reading one goes through four stages, each in its own file:
//! [`find()`] turns what the user wrote (a FILE or a NAME) into a path, `document` reads the TOML,
//! `schema` holds it as written, and `resolve` checks it and fills in every path and default.
//! Nothing later reads TOML again. Whatever is wrong with a file is collected and shown together.
//!
//! No weight is read here: [`Registry::check_tokens`] settles, from what the plugins say about
//! themselves, whether the parts fit, before anybody opens a weights file.

mod asked;
mod entries;
mod error;
mod fields;
mod file_names;
mod find;
mod mixer_kind;
mod mixer_weights;
mod moved;
mod placement;
mod resolve;
mod schema;
mod source_fields;
mod sources;
mod tokens;

#[cfg(test)]
mod tests;

pub use crate::disk::digest::Sha256Digest;
pub use crate::settings_file::{Problem, Problems};
pub(crate) use asked::Asked;
pub(crate) use entries::TableLines;
pub use entries::{
    EncoderEntry, LlmEntry, MixerEntry, MixerInit, MixerReuse, MixerWeights, PluginRef,
    PromptEntry, Registry, TransformEntry,
};
pub use error::RegistryError;
pub(crate) use file_names::file_name;
pub(crate) use find::FILE_OF_A_RUN;
pub use find::{DEFAULT_REGISTRY, SearchPath, find};
pub use mixer_kind::{FusionKind, MixerKind, Mlp, Pooling, ProjectorKind};
pub(crate) use moved::{Moved, MovedFile, Renamed};
pub use placement::{DeviceChoice, DtypeChoice};
pub(crate) use sources::verify;
pub use sources::{SourceError, WeightSource};
pub use tokens::DescribedEncoder;
