//! Parts for `merv-host` plugins that compute with candle on a CPU.
//!
//! The modules stand in their order, and each uses only earlier ones: the kernels ([`kernels`]), files ([`config`],
//! [`weights`]) and how what they hold is trained ([`gradients`]), the layers of a transformer ([`layers`]), and whole
//! models ([`models`]).
//!
//! `examples/small_vit.rs` assembles an encoder of these parts: files, description, forward pass and training,
//! in one page. For a vision transformer under timm's names, [`models::vit::Vit`] has the options that published models
//! differ in ([`models::timm::VitConfig`]): a class token with or without a position, a norm before the blocks, CLIP's
//! activation.
//!
//! A plugin that makes tensors of its own uses the candle that is built in here, [`candle`], so that its tensors
//! are of the same type; it needs no dependency on `candle-core`. Beside `use merv_plugin_api::*`, this crate's
//! [`Result`] may be imported as it is: its error is [`PluginError`] unless another one is written.
//!
//! Activations are candle tensors of `f32`, C-contiguous, in main memory. Weights stay where the file
//! is mapped; the kernels read them there, in `f32`, `f16` or `bf16`, until they are trained. Matrices are
//! multiplied in `f32` or, if the registry says so, in `bf16` ([`precision`]).

mod result;
pub mod activation;
pub mod precision;
pub mod threads;
pub mod tensor;
pub mod variants;
pub mod request;
pub mod config;
pub mod kernels;
pub mod matrix;
pub mod gradients;
pub mod weights;
pub mod layers;
pub mod models;

pub use candle_core as candle;
pub use merv_checkpoint as checkpoint;
pub use merv_plugin_api::PluginError;
pub use result::Result;
