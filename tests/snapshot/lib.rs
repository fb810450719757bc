#![allow(dead_code, missing_docs, non_local_definitions, unused_imports)]
// `#[sabi_trait]` of abi_stable 0.11.3 expands to impls inside an anonymous constant.

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
mod test_plugin;
