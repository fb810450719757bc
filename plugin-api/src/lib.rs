//! The contract between `merv-host` and its plugins.
//!
//! A plugin is a `cdylib` that provides video encoders, language models, or both. Its author
//! implements ordinary Rust traits that return ordinary `Result`s ([`Plugin`], [`Encoder`],
//! [`LanguageModel`]) and calls [`export_plugin!`] once. The adapters in this crate do the
//! foreign-function work. This crate does not depend on a machine-learning library: a plugin may
//! compute with candle, libtorch or its own kernels, and may be built with a different compiler
//! version than the host.
//!
//! # How a library is loaded
//!
//! 1. The plain C symbol `merv_plugin_manifest` returns a JSON string, the [`Manifest`]. The host
//!    checks its API version before it touches anything else.
//! 2. The static `merv_plugin_root` describes the layout of every type that crosses the boundary.
//!    `abi_stable` compares these layouts with the host's, type by type, and returns the
//!    [`PluginModule`] only if they match.
//! 3. [`PluginModule::init`](PluginModule) receives the [`HostServices`]: log, progress, threads.
//!
//! # Rules of the boundary
//!
//! * Every exported function runs the author's code in [`guard`]: a panic becomes a [`PluginError`].
//! * Memory is freed by the side that allocated it ([`TensorBuf`] carries its own release function).
//! * Libraries are never unloaded, so `'static` data of a plugin stays valid.
//! * Every method may be called from any thread, and from several threads at the same time. Calls for
//!   the same session wait for each other.
//!
//! # Evolution
//!
//! The crate's version is the ABI's version and follows semver. The host loads a plugin of the same
//! major version if the plugin's minor version is not newer than the host's. New functions of
//! [`PluginModule`] and new methods of the trait objects are added after `last_prefix_field`, with a
//! default for plugins that lack them. Structs that cross by value never change within a major version.
//!
//! Version 1.1 added training: [`TrainableEncoder`], [`TrainableLanguageModel`] and, for the parameters
//! of both, [`Trainable`]. Automatic differentiation stops at the boundary: the plugin returns a gradient,
//! and the host continues with it through its own graph, the mixer's. Wrap a model that can be trained with
//! [`EncoderObject::trainable`] or [`LanguageModelObject::trainable`]. Every other model, and every plugin
//! of version 1.0, returns [`ErrorKind::Unsupported`].
//!
//! # What the host does and what the plugin does
//!
//! The host decodes frames, resizes them as [`PreprocessSpec`] describes, arranges features for the projector,
//! fuses them, tokenises text and samples tokens. An encoder receives pixels and returns features. A language
//! model receives embeddings and token ids, and returns logits.
//!
//! * **Order of features.** `[batch, temporal * spatial, width]` is ordered by time step: feature
//!   `t * spatial + s` is position `s` of time step `t`. Positions are in row-major order, from top left to
//!   bottom right. A token that does not belong to a position of one time step (a class token of the whole
//!   clip) makes the clip a single time step: `temporal` is then 1.
//! * **Grids.** A projector that pools (`avg`, `3davg`, `conv`, `3dconv`) needs the positions of a time step as
//!   a grid. The number of rows is the integer part of the square root of `spatial`: 14 rows of 14 for 196,
//!   2 rows of 3 for 6. `spatial` must therefore be a multiple of that number, and must not include a class
//!   token. `attntv` and projectors without pooling accept any number.
//! * **Tokenisation.** The host tokenises, with the tokenizer that the registry names. A language model only
//!   receives ids below its [`vocab_size`](LanguageModelInfo::vocab_size): a tokenizer with more ordinary
//!   tokens is refused when the model is loaded. The plugin decides which tokens begin and end a text
//!   ([`bos`](LanguageModelInfo::bos), [`eos`](LanguageModelInfo::eos)).
//! * **Requests.** The host compares the description with the request. It refuses an encoder whose
//!   `num_frames`, `image_size` or dtype differs from the requested one, and names the line of the registry.
//!   If the plugin itself refuses a request, it returns [`ErrorKind::InvalidInput`]; put the key in backticks
//!   (`` `num_frames` ``) in the message, and the host points the user to its line. Use
//!   [`ErrorKind::Weights`] when a file is at fault.
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

mod error;
mod host;
mod guard;
mod manifest;
mod preprocess;
mod tensor;
mod request;
mod training;
mod encoder;
mod llm;
#[doc(hidden)]
pub mod module;

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

/// `abi_stable`, for the expansion of [`export_plugin!`] and for the host's loader.
#[doc(hidden)]
pub use abi_stable;
