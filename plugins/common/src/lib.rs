//! Parts for `merv-host` plugins that compute with candle on a CPU.
//!
//! The order of the modules is the order of the data: which model ([`variants`], [`request`]), files
//! ([`config`], [`timm`], [`weights`]), the clip that the host lends ([`features`], [`patch`]), the layers
//! of a transformer ([`linear`], [`norm`], [`activation`], [`attention`], [`mlp`], [`block`],
//! [`position`], [`attention_pool`]), whole models ([`vit`], [`frame_encoder`]), the features of a clip
//! ([`frame_tokens`]), the kernels under them ([`kernels`]), and how all of it is trained ([`gradients`]).
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

pub use merv_checkpoint as checkpoint;
pub use merv_plugin_api::PluginError;

/// What a plugin's fallible functions return.
pub type Result<T> = std::result::Result<T, PluginError>;
