//! Answers questions about videos with several specialised encoders and a language model, each of them
//! a plugin: MERV (arXiv 2501.01426) as a framework.
//!
//! ```text
//! video file → frames → per-encoder clips → encoder plugins → projectors → fusion → LLM plugin → tokens
//!   [video]             [transform]         [plugin]          [mixer]               [generate]
//! ```
//!
//! [`convert`] stands beside them: checkpoints to safetensors. [`features`] keeps what frozen encoders
//! made of clips; [`synth`] makes clips to train on and ask about; [`train`] trains
//! stage after stage; [`eval`] asks a benchmark's questions and
//! scores the answers; [`plot`] and  how a training run goes.
//!
//! The modules stand in that order, and each uses only earlier ones. What belongs together is written
//! in a registry file ([`registry`]); [`hub`] fetches what is not on this machine; [`model`] finds its
//! plugins and checks that they fit; [`prompt`] and [`tokenizer`] make ids of what is said; [`VidLm`] is the
//! public face, and [`Chat`] goes on from turn to turn.
//!
//! `convert`, `eval`, `plot`, `synth` and `train` are features of this crate, and so are downloads (`hub`)
//! and what the program alone needs (`cli`). All are on by default.
//!
#![doc = "```no_run"]
#![doc = include_str!("../examples/describe.rs")]
#![doc = "```"]
// What several features share lies unused where some of them are off.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod canvas;
mod disk;
mod error;
mod installation;
pub mod memory;
mod messages;
mod nearest;
mod observer;
mod sampling;
mod settings_file;

#[cfg(feature = "convert")]
pub mod convert;
#[cfg(feature = "eval")]
pub mod eval;
pub mod features;
pub mod generate;
pub mod hub;
pub mod mixer;
pub mod model;
#[cfg(feature = "plot")]
pub mod plot;
pub mod plugin;
pub mod prompt;
pub mod registry;
#[cfg(feature = "synth")]
pub mod synth;
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;
pub mod transform;
pub mod video;

pub use disk::hold::HoldError;
pub use error::Error;
pub use generate::{Sampling, Stop};
pub use messages::{causes, clipped, counted, escaped, in_one_line};
pub use model::{
    Answer, AnswerOptions, Chat, Encoders, Features, GenerateOptions, LoadOptions, Plan, Prefix,
    PrefixedPrompt, Prepared, Reply, VidLm, VideoOptions, Visual,
};
pub use observer::{Observer, Stage};
