//! Plugins. [`PluginPath`] finds them, [`PluginManifest`] is what a file says about itself, and [`Library`] checks and
//! loads it. Safe wrappers call it: [`Encoder`], [`LanguageModel`] and [`Session`], and [`Tape`] and [`Training`] for
//! training. [`Group`] exchanges tensors with other processes. [`Cancellation`] ends long calls.
//! [`PluginTensor`] is in main memory or on one of a plugin's [`Devices`]. [`Wanted`] chooses a plugin by what it can do.

mod call;
mod cancellation;
mod choice;
pub(crate) mod description;
mod device;
mod collective;
mod collective_scope;
mod elf;
mod encoder;
mod failure;
mod llm;
mod mixer;
mod load_error;
mod loader;
mod manifest;
mod search;
mod sink;
mod training;

pub use call::CallError;
pub use cancellation::Cancellation;
pub use choice::{Choice, Listed, NoChoice, NotTaken, Wanted};
pub use collective::Group;
pub use collective_scope::{Pending, PendingValues, Scope};
pub use device::{Copied, Copies, Devices, Input, PluginTensor};
pub use encoder::{Encoder, Tape};
pub use failure::{BoundaryError, PluginFailure};
pub use llm::{LanguageModel, Session};
pub use load_error::LoadError;
pub use loader::Library;
pub use manifest::{PluginManifest, ProvidedModel};
pub use mixer::{MixerTape, PluginMixer};
pub use search::{PATH_VARIABLE, PluginNotFound, PluginPath, file_name, name_of};
pub use sink::{Message, on_message};
pub use training::Training;
