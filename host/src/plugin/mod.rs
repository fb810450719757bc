//! Plugins. [`PluginPath`] finds them, and [`Library`] checks and loads them. Safe wrappers call them:
//! [`Encoder`], [`LanguageModel`] and [`Session`], and [`Tape`] and [`Training`] for training.

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
