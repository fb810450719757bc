//! A model that answers: from a registry to plugins and files on this machine ([`plan`]), to loaded encoders
//! ([`Encoders`]), to the video-language model ([`VidLm`]) and conversations with it ([`Chat`]).

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
