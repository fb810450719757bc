//! What crosses the boundary, in types of `abi_stable`. Authors of plugins do not need it: everything here is an
//! adapter of an ordinary trait, so that another crate could take the place of `abi_stable` without a change of theirs.

mod error;
mod text;
mod host;
mod tapes;
mod sessions;
mod training;
mod encoder;
mod llm;
mod collective;
mod module;

pub use abi_stable;
pub use collective::CollectiveObject;
pub use encoder::{EncoderObject, FeaturesAndTape};
pub use llm::LanguageModelObject;
pub use module::{Module, PluginModule, PluginModuleRef};
pub use tapes::TapeId;
pub use training::TrainableObject;

/// The symbol of the static of type `LibHeader` that holds the layouts and creates the [`PluginModule`].
///
/// `merv_plugin_2_c` is reserved: a successor of `abi_stable` may export its root there, beside this one.
pub const ROOT_SYMBOL: &str = "merv_plugin_2_root";
