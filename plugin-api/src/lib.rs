//! The contract between `merv-host` and its plugins.
//!
//! A plugin is a `cdylib` that provides video encoders, language models, mixers, fusions or collectives. Its author
//! implements [`Plugin`] and the traits of what it provides, which are ordinary Rust and return ordinary `Result`s,
//! and calls [`export_plugin!`] once. The adapters in this crate do the foreign-function work. This crate does not
//! depend on a machine-learning library: a plugin may compute with candle, libtorch or its own kernels, and may be built
//! with a different compiler version than the host.
//!
//! | in the manifest | methods of [`Plugin`] | trait | for training |
//! |---|---|---|---|
//! | [`Provided::encoder`] | [`Plugin::describe_encoder`], [`Plugin::load_encoder`] | [`Encoder`] | [`TrainableEncoder`] |
//! | [`Provided::llm`] | [`Plugin::describe_llm`], [`Plugin::load_llm`] | [`LanguageModel`] | [`TrainableLanguageModel`] |
//! | [`Provided::mixer`], [`Provided::fusion`] | [`Plugin::describe_mixer`], [`Plugin::load_mixer`] | [`Mixer`] | [`TrainableMixer`] |
//! | [`Provided::collective`] | [`Plugin::join_collective`] | [`Collective`] | |
//! | [`feature::DEVICE_TENSORS`] | [`Plugin::devices`] | [`DeviceService`] | |
//!
//! # How a library is loaded
//!
//! 1. A section of the file ([`MANIFEST_SECTION`]) contains the [`Manifest`] as JSON. The host reads it without opening
//!    the library, the API version first and alone. `merv-host plugins` does nothing more.
//! 2. The library is opened. The static [`ROOT_SYMBOL`](module::ROOT_SYMBOL) describes the layout of every type that
//!    crosses the boundary. `abi_stable` compares these layouts with the host's, type by type, and returns the root
//!    module only if they match.
//! 3. [`Plugin::init`] receives the [`HostServices`].
//!
//! # Rules of the boundary
//!
//! * Every exported function runs the author's code in [`guard`]: a panic becomes a [`PluginError`]. Panics must
//!   therefore unwind: this crate cannot be built with `panic = "abort"`. The text of a panic goes to the host's log.
//! * Memory is freed by the side that allocated it ([`TensorBuf`] carries its own release function).
//! * Libraries are never unloaded, so `'static` data of a plugin stays valid.
//! * Every method may be called from any thread, and from several threads at the same time. Calls for
//!   the same session wait for each other.
//! * A borrow ends when the call returns. The tensors of a collective operation are the exception: they are borrowed
//!   until it ends ([`Collective`]).
//!
//! Nothing can guard against some ends of a process. A plugin must avoid them:
//!
//! * an allocation that fails outside `try_reserve`, and a stack overflow, which end the process;
//! * a panic in a destructor that runs while another panic unwinds (the adapters guard the models, sessions and
//!   tapes that they hold, but not what lives inside a method of the plugin);
//! * a C++ exception that reaches Rust: catch it in C++;
//! * `exit` and `abort`, signal handlers, and changes to the environment or the working directory.
//!
//! # Who owns what
//!
//! | type | allocated by | freed by | threads |
//! |---|---|---|---|
//! | [`TensorView`], [`TensorViewMut`], [`Clips`], [`TrainingTexts`] | the caller | the caller, after the call returned | the receiver may use them on any thread until it returns |
//! | [`CollectiveBuffers`] | the caller | the caller, after the operation has ended ([`Collective`]) | the receiver may use the elements on any thread until then |
//! | [`TensorBuf`] | its producer | its producer's release function, when the receiver drops it | any; the release too |
//! | requests, descriptions, [`TrainingOptions`], [`AdamWStep`], [`ParameterInfo`], [`HostServices`] | the receiver: they cross as text and are read into its own memory | the receiver | any |
//! | [`PluginError`], [`LogRecord`] | the receiver, who copies the texts | the receiver | any |
//! | [`LossAndGradient`], [`VisualTokens`] | the plugin | its tensor as [`TensorBuf`] | any |
//! | [`DeviceBuffer`] | the plugin's device service | the plugin, when the host drops it | any, one at a time while it is written |
//! | [`EncoderObject`], [`LanguageModelObject`], [`MixerObject`], [`TrainableObject`], [`CollectiveObject`], [`DeviceServiceObject`] | the plugin | the plugin, when the host drops them | any, several at a time |
//! | callbacks ([`VisitTensor`], [`TakeTensor`]) | the host | the host, after the call returned | only the thread of the call |
//! | [`ReadyGradients`] | the host | the host, after the call returned | any thread, one at a time, until the call returns |
//!
//! # Evolution
//!
//! The crate's version is the ABI's version and follows semver. Host and plugin must have the same major version. Their
//! minor versions may differ in both directions: each uses what both know.
//!
//! * Descriptions, requests and settings cross as JSON text. New fields have defaults, and fields that a receiver does
//!   not know are ignored. These structs are `#[non_exhaustive]`, have builders, and have a map for keys that only one
//!   plugin knows (`options`, `extra`).
//! * Dtypes, devices, error kinds and other choices are open codes, not enums. A receiver refuses a code that it does
//!   not know, by name.
//! * New functions of the root module and new methods of the objects come last, with a default for a side that lacks
//!   them: [`ErrorKind::UNSUPPORTED`].
//! * Tensors, errors and the few other structs that cross by value have reserved words, and never change within a major
//!   version. A snapshot of version 2.0 is tested against this crate.
//! * What a plugin can do beyond its duty is stated in the manifest ([`feature`]), not derived from a version.
//!
//! Version 2.0 is frozen when the libtorch and MPI plugins have been built on it. A plugin of version 1 must be rebuilt.
//!
//! # What the host does and what the plugin does
//!
//! The host decodes frames, resizes them as [`PreprocessSpec`] describes, arranges features for the projector,
//! fuses them, tokenises text and samples tokens. An encoder receives pixels and returns features. A language
//! model receives embeddings and token ids, and returns logits.
//!
//! * **Tensors.** Every plugin takes and returns `f32` in main memory, C-contiguous. Everything else is a capability
//!   that both sides state.
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
//! * **Requests.** The host compares the description with the request. It refuses a model whose
//!   `num_frames`, `image_size`, dtype, device or options differ from the requested ones, and names the line of the
//!   registry. If the plugin itself refuses a request, it returns [`ErrorKind::INVALID_INPUT`]; put the key in backticks
//!   (`` `num_frames` ``) in the message, and the host points the user to its line. Use
//!   [`ErrorKind::WEIGHTS`] when a file is at fault. A loaded model must describe itself as it was described before.
//!
//! # A minimal encoder
//!
//! ```
//! use merv_plugin_api::*;
//!
//! struct MeanColour(EncoderInfo);
//!
//! impl Encoder for MeanColour {
//!     fn info(&self) -> EncoderInfo {
//!         self.0.clone()
//!     }
//!
//!     /// `[B, F, 3, H, W] -> [B, F, 3]`: the mean of each channel of each frame.
//!     fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
//!         let [batch, frames, channels, height, width] = clips.pixels.dims::<5>()?;
//!         let plane = height * width;
//!         let means = clips.pixels.f32s()?.chunks(plane).map(|p| p.iter().sum::<f32>() / plane as f32);
//!         TensorBuf::from_vec(means.collect::<Vec<f32>>(), &[batch, frames, channels])
//!     }
//! }
//!
//! struct MyPlugin;
//!
//! impl Plugin for MyPlugin {
//!     const MANIFEST: Manifest = Manifest::new("mean-colour", env!("CARGO_PKG_VERSION"))
//!         .license("MIT")
//!         .provides(&[Provided::encoder("mean-colour", "no weights").without_weights()]);
//!
//!     fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
//!         let preprocess = PreprocessSpec::new(request.image_size.unwrap_or(32));
//!         Ok(EncoderInfo::new(3, request.num_frames, [request.num_frames, 1], preprocess))
//!     }
//!
//!     fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
//!         Ok(EncoderObject::new(MeanColour(Self::describe_encoder(request)?)))
//!     }
//! }
//!
//! merv_plugin_api::export_plugin!(MyPlugin);
//! # fn main() {}
//! ```

// `#[sabi_trait]` of abi_stable 0.11.3 expands to impls inside an anonymous constant.
#![allow(non_local_definitions)]

#[cfg(panic = "abort")]
compile_error!(
    "merv-plugin-api catches panics at the plugin boundary, so they must unwind: remove `panic = \"abort\"` from the \
     profile of this build"
);

mod code;
mod error;
mod guard;
mod call;
mod host;
mod guarded;
mod dtype;
mod device;
mod tensor;
mod device_service;
mod manifest;
mod preprocess;
mod request;
mod training;
mod encoder;
mod llm;
mod mixer;
mod operation;
mod group;
mod collective_buffers;
mod collective;
#[doc(hidden)]
pub mod abi;
mod plugin;
#[doc(hidden)]
pub mod module;
mod export;

pub use abi::{
    CollectiveObject, DeviceServiceObject, EncoderObject, FeaturesAndTape, LanguageModelObject,
    MixerObject, TapeId, TrainableObject,
};
pub use call::Call;
pub use collective::{Collective, OperationId};
pub use collective_buffers::CollectiveBuffers;
pub use device::{Device, DeviceKind, UnknownDevice};
pub use device_service::{DeviceBuffer, DeviceInfo, DeviceService};
pub use dtype::{DType, TensorElement};
pub use encoder::{Clips, Encoder, EncoderInfo, TrainableEncoder};
pub use error::{ErrorKind, PluginError};
pub use group::{CollectiveRequest, GroupInfo, ReductionOrder};
pub use guard::guard;
pub use host::{HostServices, HostSink, LogLevel, LogRecord, host, log, log_record, progress};
pub use llm::{
    Backward, IGNORED_LABEL, LanguageModel, LanguageModelInfo, LogitsAt, LossAndGradient,
    SessionId, TrainableLanguageModel, TrainingTexts,
};
pub use manifest::{API_VERSION, MANIFEST_SECTION, Manifest, Provided, feature, kind};
pub use mixer::{
    Mixer, MixerInfo, MixerInput, MixerRequest, MixerWeights, TrainableMixer, VisualTokens,
};
pub use operation::{CollectiveOperation, OperationKind, Reduction};
pub use plugin::Plugin;
pub use preprocess::{Interpolation, PreprocessSpec, ResizeDomain};
pub use request::{EncoderRequest, LanguageModelRequest, ModelSource};
pub use tensor::{Stream, TensorBuf, TensorView, TensorViewMut};
pub use training::{
    AdamWStep, ParameterInfo, ParameterRange, Ranges, ReadyGradients, StatePart, TakeTensor,
    Trainable, TrainingOptions, VisitTensor,
};
