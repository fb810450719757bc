//! Answers questions about videos with several specialised encoders and a language model. Each of them is a
//! plugin. The crate implements MERV (arXiv 2501.01426) as a framework.
//!
//! ```text
//! video file → frames → per-encoder clips → encoder plugins → projectors → fusion → LLM plugin → tokens
//!   [video]             [transform]         [plugin]          [mixer]               [generate]
//! ```
//!
//! The modules follow that order, and each uses only earlier ones. A registry file ([`registry`]) describes a
//! model: its encoders, mixer and language model. [`hub`] downloads the files that are missing on this
//! machine. [`model`] finds the plugins and checks that they fit together. [`prompt`] and [`tokenizer`] turn
//! messages into token ids. [`VidLm`] is the main type of the public API, and [`Chat`] keeps a conversation
//! over several turns.
//!
//! The other modules do the work around it. [`convert`] converts checkpoints to safetensors. [`features`]
//! caches the features that frozen encoders compute from clips. [`synth`] generates synthetic clips to train
//! and test on. [`train`] trains in stages. [`eval`] runs benchmarks and scores the answers. [`plot`] draws
//! the curves of a training run.
//!
//! `convert`, `eval`, `plot`, `synth` and `train` are features of this crate. So are downloads (`hub`) and
//! the parts that only the program needs (`cli`). All features are on by default.
//!
#![doc = "```no_run"]
#![doc = include_str!("../examples/describe.rs")]
#![doc = "```"]
// Code that several features share is unused when some of them are off.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod address_space;
mod threads;
mod messages;
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

pub use disk::write_lock::LockError;
pub use error::Error;
pub use generate::{Sampling, Stop};
pub use messages::{causes, clipped, counted, escaped, in_one_line};
pub use model::{
    Answer, AnswerOptions, Chat, Encoders, Features, GenerateOptions, LoadOptions, Plan, Prefix,
    PrefixedPrompt, Prepared, Reply, VidLm, VideoOptions, Visual,
};
pub use observer::{Observer, Stage};
