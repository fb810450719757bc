//! Parts for `merv-host` plugins that compute with candle on a CPU.
//!
//! The order of the modules is the order of the data: which model ([`variants`], [`request`]), files
//! ([`config`], [`timm`], [`weights`]), the clip that the host lends ([`features`], [`patch`]), the layers
//! of a transformer ([`linear`], [`norm`], [`activation`], [`attention`], [`mlp`], [`block`],
//! [`position`], [`attention_pool`]), whole models ([`vit`], [`frame_encoder`]), the features of a clip
//! ([`frame_tokens`]), the kernels under them ([`kernels`]), and how all of it is trained ([`gradients`]).
//!
//! `examples/small_vit.rs` assembles an encoder of these parts: files, description, forward pass and training,
//! in one page. For a vision transformer under timm's names, [`vit::Vit`] has the options that published models
//! differ in ([`timm::VitConfig`]): a class token with or without a position, a norm before the blocks, CLIP's
//! activation.
//!
//! A plugin that makes tensors of its own uses the candle that is built in here, [`candle`], so that its tensors
//! are of the same type; it needs no dependency on `candle-core`. Beside `use merv_plugin_api::*`, this crate's
//! [`Result`] may be imported as it is: its error is [`PluginError`] unless another one is written.
//!
//! Activations are candle tensors of `f32`, C-contiguous, in main memory. Weights stay where the file
//! is mapped; the kernels read them there, in `f32`, `f16` or `bf16`, until they are trained. Matrices are
//! multiplied in `f32` or, if the registry says so, in `bf16` ([`precision`]).

pub mod activation;
pub mod attention;
pub mod attention_pool;
pub mod block;
pub mod config;
pub mod features;
pub mod frame_encoder;
pub mod frame_tokens;
pub mod gradients;
pub mod kernels;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod patch;
pub mod position;
pub mod precision;
pub mod request;
pub mod tensor;
pub mod threads;
pub mod timm;
pub mod variants;
pub mod vit;
pub mod weights;

pub use candle_core as candle;
pub use merv_checkpoint as checkpoint;
pub use merv_plugin_api::PluginError;

/// What a plugin's fallible functions return.
pub type Result<T, E = PluginError> = std::result::Result<T, E>;
