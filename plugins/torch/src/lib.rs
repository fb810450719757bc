//! A `merv-host` plugin whose encoder and language model compute and learn with libtorch, through `tch`: SigLIP's patches
//! (arXiv 2303.15343) and Llama-like language models (arXiv 2307.09288), in `f32` on the CPU, from safetensors.
//!
//! It is a separate project, outside `merv-host`'s workspace. `make check-torch` gets libtorch, builds the plugin, and
//! compares it with the plugins that compute with candle: features, logits, losses and trained weights.
//!
//! # Limits
//!
//! * Calls of one model run one after the other, on all the threads that libtorch uses.
//! * Pictures have the size that the encoder was trained at.
//! * `rope_scaling`, biases in the language model, and every other setting that is not built here are refused.
//! * `checkpoint_activations` is ignored.

mod config;
mod failure;
mod tensor;
mod learned;
mod weights;
mod model;
mod siglip;
mod llama;

use failure::Result;
use merv_plugin_api::{
    DType, EncoderInfo, EncoderObject, EncoderRequest, LanguageModelInfo, LanguageModelObject,
    LanguageModelRequest, Manifest, ModelSource, Plugin, PluginError, Provided, feature,
};

const ENCODER: &str = "siglip-vit-b16-224px-all-no-cls";
const LANGUAGE_MODEL: &str = "llama";

struct Torch;

impl Plugin for Torch {
    const MANIFEST: Manifest = Manifest::new("torch", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .backend("libtorch")
        .provides(&[
            Provided::encoder(ENCODER, "Apache-2.0").features(&[feature::TRAIN]),
            Provided::llm(LANGUAGE_MODEL, "that of the weights").features(&[feature::TRAIN]),
        ]);

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        check(&request.model, ENCODER)?;
        siglip::Sizes::read(request)?.describe(request)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        check(&request.model, ENCODER)?;
        Ok(EncoderObject::trainable(siglip::load(request)?))
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        check(&request.model, LANGUAGE_MODEL)?;
        Ok(llama::Config::read(&request.model)?.describe())
    }

    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        check(&request.model, LANGUAGE_MODEL)?;
        Ok(LanguageModelObject::trainable(llama::load(&request.model)?))
    }
}

/// Checks what a request asks of every model.
fn check(model: &ModelSource, id: &str) -> Result<(), PluginError> {
    if model.id != id {
        let message = format!("this plugin provides `{id}`, not `{}`", model.id);
        return Err(PluginError::unsupported(message));
    }
    if !model.device.is_main_memory() {
        let message = format!("this plugin computes on the CPU, not on {}", model.device);
        return Err(PluginError::unsupported(message));
    }
    match model.dtype {
        None | Some(DType::F32) => Ok(()),
        Some(dtype) => Err(PluginError::unsupported(format!(
            "this plugin computes in f32, not in {dtype}"
        ))),
    }
}

merv_plugin_api::export_plugin!(Torch);
