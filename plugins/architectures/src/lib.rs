//! What `merv-host`'s model ids mean, without a tensor library: the sizes in config files, the descriptions of models, and
//! the names of their weights. Plugins that compute with candle and with libtorch read models through this crate, so an
//! id, a config file and a mistake in either mean the same in both.
//!
//! Each family has a module with its ids and a function `describe`, which turns a request into the sizes of the model and
//! its description. [`weights`] reads the files of the weights, and reports everything that does not fit in one error.

mod result;
pub mod messages;
pub mod nearest;
pub mod activation;
pub mod precision;
pub mod variants;
pub mod request;
pub mod config;
pub mod weights;
pub mod training;
pub mod features;
pub mod frame_tokens;
pub mod timm;
pub mod siglip;
pub mod dinov2;
pub mod vivit;
pub mod languagebind;
pub mod hiera;
pub mod llama;
pub mod mixer;

pub use merv_checkpoint as checkpoint;
pub use merv_plugin_api::PluginError;
pub use result::Result;
