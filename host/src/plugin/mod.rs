//! Plugins: found (`search`), checked and loaded ([`Library`]), and called through safe wrappers
//! ([`Encoder`], [`LanguageModel`], [`Session`]; to train them, [`Tape`] and [`Training`]).

mod call;
mod elf;
mod encoder;
mod failure;
mod llm;
mod loader;
mod search;
mod sink;
mod training;

pub use call::CallError;
pub use encoder::{Encoder, Tape};
pub use failure::{BoundaryError, PluginFailure};
pub use llm::{LanguageModel, Session};
pub use loader::{Library, LoadError};
pub use search::{PATH_VARIABLE, PluginNotFound, PluginPath, name_of};
pub use sink::{Message, on_message};
pub use training::Training;
