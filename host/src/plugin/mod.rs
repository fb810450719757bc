//! Plugins: found (`search`), checked and loaded ([`Library`]), and called through safe wrappers
//! ([`Encoder`], [`LanguageModel`], [`Session`]).

mod call;
mod elf;
mod encoder;
mod llm;
mod loader;
mod search;
mod sink;

pub use call::CallError;
pub use encoder::Encoder;
pub use llm::{LanguageModel, Session};
pub use loader::{Library, LoadError};
pub use search::{PATH_VARIABLE, PluginNotFound, PluginPath, name_of};
pub use sink::{Message, on_message};
