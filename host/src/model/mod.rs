//! The video-language model. [`plan`] finds the plugins and files of a registry, [`Encoders`] are the loaded
//! encoders, [`VidLm`] is the whole model, and [`Chat`] is a conversation with it.

pub(crate) mod answers;
pub(crate) mod chat;
pub(crate) mod dump;
pub(crate) mod encoders;
pub(crate) mod files;
pub(crate) mod options;
pub mod plan;
pub(crate) mod published;
pub(crate) mod responder;
pub(crate) mod vidlm;
pub(crate) mod visual;

pub use answers::{Answer, AnswerOptions, Prefix, PrefixedPrompt};
pub use chat::{Chat, Reply};
pub use encoders::{Encoders, Features, Prepared};
pub use options::{GenerateOptions, VideoOptions};
pub use plan::{LoadOptions, Plan};
pub use vidlm::VidLm;
pub use visual::Visual;
