//! Building blocks for `merv-host` plugins that compute with candle on a CPU.
//!
//! What model ids mean, and what their config files contain, is in [`architectures`], whose modules for plugins of one's own
//! are re-exported here. Each module uses only the modules listed before it: the kernels ([`kernels`]),
//! training ([`gradients`]), the weights in files ([`weights`]), the layers of a transformer ([`layers`]),
//! and whole models ([`models`]).
//!
//! `examples/small_vit.rs` builds an encoder from these parts on one page: files, description, forward pass
//! and training. For a vision transformer with timm's tensor names, use [`models::vit::Vit`]. It has the
//! options in which published models differ ([`architectures::timm::VitConfig`]), such as a class token with or
//! without a position, a norm before the blocks, and CLIP's activation. A plugin of encoders implements
//! [`EncoderFamily`](encoder_plugin::EncoderFamily).
//!
//! A plugin that creates its own tensors uses the candle of this crate, [`candle`], so that the types match.
//! It does not need to depend on `candle-core`. [`Result`] can be imported together with
//! `use merv_plugin_api::*`; its error defaults to [`PluginError`].
//!
//! Activations are C-contiguous candle tensors of `f32` in main memory. Weights stay in the mapped file, and
//! the kernels read them there as `f32`, `f16`, `bf16` or quantised blocks, until they are trained. Matrix
//! products are computed in `f32` or, if the registry requests it, in `bf16` ([`precision`]): both operands are rounded to
//! `bf16`, and products are summed in `f32`. This is faster on a CPU with AVX-512 BF16 and slower on one without. Inputs and
//! outputs of layers, attention, low-rank adapters, and forward products of up to
//! [`FEW_ROWS`](kernels::linear::FEW_ROWS) rows (decoding) stay in `f32`.

pub mod threads;
pub mod tensor;
pub mod encoder_plugin;
pub mod kernels;
pub mod matrix;
pub mod gradients;
pub mod weights;
pub mod layers;
pub mod models;

pub use candle_core as candle;
pub use merv_architectures::{
    self as architectures, PluginError, Result, activation, checkpoint, config, precision, request,
    variants,
};
