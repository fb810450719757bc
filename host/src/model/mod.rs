//! A model that answers: from a registry to plugins and files on this machine ([`plan`]), to loaded encoders
//! ([`Encoders`]), to the video-language model ([`VidLm`]) and conversations with it ([`Chat`]).

pub(crate) mod answers;
pub(crate) mod chat;
pub(crate) mod dump;
pub(crate) mod encoders;
pub(crate) mod files;
pub mod plan;
pub(crate) mod published;
pub(crate) mod vidlm;

pub use answers::{Answer, AnswerOptions, Ask, Prefix};
pub use chat::Chat;
pub use encoders::{Encoders, Features, Prepared};
pub use plan::{LoadOptions, Plan};
pub use vidlm::{GenerateOptions, Reply, VidLm, VideoOptions, Visual};
