//! The contract between `merv-host` and its plugins.
//!
//! A plugin is a `cdylib` that brings video encoders, language models, or both. Its author
//! implements ordinary Rust traits with ordinary `Result`s ([`Plugin`], [`Encoder`],
//! [`LanguageModel`]) and names the plugin once in [`export_plugin!`]; the adapters in this crate do
//! the foreign-function work. No machine-learning library appears here, so a plugin may compute with
//! candle, libtorch or its own kernels, and be built by another compiler version than the host.
//!
//! # How a library is loaded
//!
//! 1. The plain C symbol `merv_plugin_manifest` returns a JSON string, the [`Manifest`]. The host
//!    reads the API version in it before it touches anything else.
//! 2. The static `merv_plugin_root` carries the layout of every type that crosses. `abi_stable`
//!    compares it with the host's own, type by type, and hands over the [`PluginModule`] only when
//!    they agree.
//! 3. [`PluginModule::init`](PluginModule) receives the [`HostServices`]: log, progress, threads.
//!
//! # Rules of the boundary
//!
//! * Every exported function runs the author's code in [`guard`]: a panic becomes a [`PluginError`].
//! * Memory is freed by the side that allocated it ([`TensorBuf`] carries its own release function).
//! * Libraries are never unloaded, so `'static` data of a plugin stays valid.
//! * Every method may be called from any thread, and from several at once; calls that concern the same
//!   session wait for each other.
//!
//! # Evolution
//!
//! The crate's version is the ABI's version and follows semver: the host loads any plugin of its own
//! major version whose minor version is not newer than its own. New functions of [`PluginModule`] and
//! new methods of the trait objects go after `last_prefix_field`, with a default for plugins that lack
//! them; structs that cross by value never change within a major version.
//!
//! Version 1.1 brought training: [`TrainableEncoder`], [`TrainableLanguageModel`] and, for the parameters
//! of both, [`Trainable`]. Automatic differentiation stops at the boundary: the host continues its own
//! graph, the mixer's, with the gradient that comes back. An author wraps a model that can be trained with
//! [`EncoderObject::trainable`] or [`LanguageModelObject::trainable`]; every other model, and every plugin
//! of version 1.0, answers [`ErrorKind::Unsupported`].
//!
//! # What the host does, and what the plugin
//!
//! The host decodes and resizes frames as [`PreprocessSpec`] says, lays features out for the projector, fuses
//! them, tokenises text and picks tokens. An encoder sees pixels and returns features; a language model sees
//! embeddings and token ids, and returns logits.
//!
//! * **Order of features.** `[batch, temporal * spatial, width]` lies time step by time step: feature
//!   `t * spatial + s` is place `s` of time step `t`. Places are in rows from top to bottom, each from left to
//!   right. What belongs to no place of one time step (a class token of the whole clip) makes the clip one time
//!   step: `temporal` is then 1.
//! * **Grids.** A projector that pools (`avg`, `3davg`, `conv`, `3dconv`) needs the places of a time step as a
//!   grid with as many rows as fit into the square of `spatial`: 14 rows of 14 for 196, 2 rows of 3 for 6. So
//!   `spatial` has to be a multiple of the whole part of its square root, and holds no class token. `attntv`
//!   and projectors without pooling take any number.
//! * **Who tokenises.** The host, with the tokenizer that the registry names. A language model gets ids below
//!   its [`vocab_size`](LanguageModelInfo::vocab_size) alone: a tokenizer with more ordinary tokens is refused
//!   when the model is loaded. Where a text begins and ends is the plugin's to say
//!   ([`bos`](LanguageModelInfo::bos), [`eos`](LanguageModelInfo::eos)).
//! * **What a registry asks for.** The description is compared with the request: an encoder that describes
//!   another `num_frames`, `image_size` or dtype than was asked for is refused, and the registry's line named.
//!   What the plugin itself refuses of a request is [`ErrorKind::InvalidInput`]; a message that names the key
//!   in backticks (`` `num_frames` ``) leads the user to the right line. [`ErrorKind::Weights`] blames a file.
//!
//! # A minimal encoder
//!
//! ```
//! use merv_plugin_api::*;
//!
//! struct MeanColour {
//!     info: EncoderInfo,
//! }
//!
//! impl Encoder for MeanColour {
//!     fn info(&self) -> EncoderInfo {
//!         self.info.clone()
//!     }
//!
//!     /// `[B, F, 3, H, W] -> [B, F, 3]`: the mean of each channel of each frame.
//!     fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf, PluginError> {
//!         let [batch, frames, channels, height, width] = clips.dims::<5>()?;
//!         let plane = height * width;
//!         let means = clips.f32s()?.chunks(plane).map(|p| p.iter().sum::<f32>() / plane as f32);
//!         TensorBuf::from_vec(means.collect::<Vec<f32>>(), &[batch, frames, channels])
//!     }
//! }
//!
//! struct MyPlugin;
//!
//! impl Plugin for MyPlugin {
//!     fn manifest() -> Manifest {
//!         Manifest::new("mean-colour", env!("CARGO_PKG_VERSION"))
//!             .license("MIT")
//!             .encoder_without_weights("mean-colour")
//!     }
//!
//!     fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
//!         let image_size = request.image_size.unwrap_or(32);
//!         Ok(EncoderInfo {
//!             width: 3,
//!             num_frames: request.num_frames,
//!             image_size,
//!             temporal: request.num_frames,
//!             spatial: 1,
//!             preprocess: PreprocessSpec {
//!                 image_size,
//!                 short_side: image_size,
//!                 interpolation: Interpolation::Bilinear,
//!                 domain: ResizeDomain::PillowU8,
//!                 mean: [0.0; 3],
//!                 std: [1.0; 3],
//!             },
//!             dtype: DType::F32,
//!             parameters: 0,
//!             macs_per_clip: 0,
//!         })
//!     }
//!
//!     fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
//!         Ok(EncoderObject::new(MeanColour { info: Self::describe_encoder(request)? }))
//!     }
//! }
//!
//! merv_plugin_api::export_plugin!(MyPlugin);
//! # fn main() {}
//! ```

// `#[sabi_trait]` of abi_stable 0.11.3 expands to impls inside an anonymous constant.
#![allow(non_local_definitions)]

#[doc(hidden)]
pub mod module;

mod encoder;
mod error;
mod guard;
mod host;
mod llm;
mod manifest;
mod preprocess;
mod request;
mod tensor;
mod training;

pub use encoder::{Encoder, EncoderInfo, EncoderObject, FeaturesAndTape, TapeId, TrainableEncoder};
pub use error::{ErrorKind, PluginError};
pub use guard::guard;
pub use host::{HostServices, HostSink, LogLevel, log, progress};
pub use llm::{
    Backward, IGNORED_LABEL, LanguageModel, LanguageModelInfo, LanguageModelObject, LogitsAt,
    LossAndGradient, SessionId, TrainableLanguageModel,
};
pub use manifest::{API_VERSION, MANIFEST_SYMBOL, Manifest, ModelKind, ModelManifest};
pub use module::{Plugin, PluginModule, PluginModuleRef, ROOT_SYMBOL};
pub use preprocess::{Interpolation, PreprocessSpec, ResizeDomain};
pub use request::{EncoderRequest, LanguageModelRequest, ModelSource};
pub use tensor::{DType, Device, DeviceKind, TensorBuf, TensorElement, TensorView};
pub use training::{
    AdamWStep, ParameterInfo, StatePart, TakeTensor, Trainable, TrainableObject, TrainingOptions,
    VisitGradient,
};

/// `abi_stable`, for the expansion of [`export_plugin!`] and for the loader of the host.
#[doc(hidden)]
pub use abi_stable;
