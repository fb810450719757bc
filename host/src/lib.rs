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

mod messages;
mod nearest;
mod disk;
mod installation;
mod settings_file;
mod observer;
pub mod video;
pub mod transform;
pub mod prompt;
pub mod tokenizer;
pub mod plugin;
pub mod memory;
pub mod hub;
pub mod registry;
pub mod mixer;
pub mod features;
mod sampling;
mod error;
pub mod generate;
#[cfg(feature = "convert")]
pub mod convert;
pub mod model;
mod canvas;
#[cfg(feature = "eval")]
pub mod eval;
#[cfg(feature = "synth")]
pub mod synth;
#[cfg(feature = "train")]
pub mod train;
#[cfg(feature = "plot")]
pub mod plot;

pub use disk::hold::HoldError;
pub use error::Error;
pub use generate::{Sampling, Stop};
pub use messages::{causes, clipped, counted, escaped, in_one_line};
pub use model::{
    Answer, AnswerOptions, Chat, Encoders, Features, GenerateOptions, LoadOptions, Plan, Prefix,
    PrefixedPrompt, Prepared, Reply, VidLm, VideoOptions, Visual,
};
pub use observer::{Observer, Stage};
