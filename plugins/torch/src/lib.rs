//! A `merv-host` plugin whose models compute and learn with libtorch, through `tch`: the encoders of MERV and Hiera,
//! Llama-like language models, and MERV's mixer, on the CPU and on CUDA devices.
//!
//! It is a separate project, outside `merv-host`'s workspace. `make torch` gets libtorch and builds it; `make test-torch`
//! runs the tests of models with it. Ids, config files and names of weights are those of `merv-architectures`, which the
//! plugins that compute with candle use too.
//!
//! Sums along a model, norms, trained weights and the optimizer's state are `f32`. The operands of matrix products are `f32`
//! on the CPU and `bf16` on CUDA, unless the registry says otherwise. Calls of one model run at the same time; only a change
//! of its weights waits for them.
//!
//! # Limits
//!
//! * Weights are copied from their files into memory. Quantised ones are refused.

mod failure;
mod placement;
mod tensor;
mod learned;
mod model;
mod weights;
mod layers;
mod encoders;
mod llama;
mod mixer;
mod cuda;

use encoders::Family;
use failure::Result;
use merv_plugin_api::{
    DeviceServiceObject, EncoderInfo, EncoderObject, EncoderRequest, HostServices,
    LanguageModelInfo, LanguageModelObject, LanguageModelRequest, Manifest, MixerInfo, MixerObject,
    MixerRequest, MixerWeights, Plugin, PluginError, Provided, feature,
};

const ENCODERS: usize = count(&encoders::PROVIDED);
const LANGUAGE_MODELS: usize = merv_architectures::llama::PROVIDED.len();

/// Everything that the plugin provides.
static PROVIDED: [Provided; ENCODERS + LANGUAGE_MODELS + 1] = provided();

const fn count(parts: &[&[Provided]]) -> usize {
    let (mut count, mut part) = (0, 0);
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

const fn provided() -> [Provided; ENCODERS + LANGUAGE_MODELS + 1] {
    const FEATURES: &[&str] = &[feature::TRAIN, feature::CANCEL, feature::DEVICE_TENSORS];
    let mut all =
        [Provided::mixer(mixer::ID).features(&[feature::TRAIN]); ENCODERS + LANGUAGE_MODELS + 1];
    let (mut index, mut part) = (0, 0);
    while part < encoders::PROVIDED.len() {
        let mut row = 0;
        while row < encoders::PROVIDED[part].len() {
            all[index] = encoders::PROVIDED[part][row];
            index += 1;
            row += 1;
        }
        part += 1;
    }
    let mut row = 0;
    while row < LANGUAGE_MODELS {
        all[index] = merv_architectures::llama::PROVIDED[row].features(FEATURES);
        index += 1;
        row += 1;
    }
    all
}

struct Torch;

impl Plugin for Torch {
    const MANIFEST: Manifest = Manifest::new("torch", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .backend("libtorch")
        .devices(&["cpu", "cuda"])
        .provides(&PROVIDED);

    fn init(host: &HostServices) -> Result<(), PluginError> {
        tch::set_num_threads(i32::try_from(host.threads).unwrap_or(i32::MAX));
        Ok(())
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        Family::of(&request.model.id)?.describe(request)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Family::of(&request.model.id)?.load(request)
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        llama::describe(request)
    }

    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        Ok(llama::load(request)?)
    }

    fn describe_mixer(request: &MixerRequest) -> Result<MixerInfo, PluginError> {
        Ok(mixer::describe(request)?)
    }

    fn load_mixer(
        request: &MixerRequest,
        weights: &MixerWeights<'_>,
    ) -> Result<MixerObject, PluginError> {
        Ok(mixer::load(request, weights)?)
    }

    fn devices() -> Result<DeviceServiceObject, PluginError> {
        Ok(DeviceServiceObject::new(cuda::Service))
    }
}

merv_plugin_api::export_plugin!(Torch);
