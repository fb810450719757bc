//! Llama (arXiv 2302.13971, 2307.09288) and Qwen2 (arXiv 2407.10671), which adds biases. Agrees with `LlamaForCausalLM` of
//! `transformers/models/llama/modeling_llama.py` and `Qwen2ForCausalLM` of `transformers/models/qwen2/modeling_qwen2.py`.

mod rotation;
mod cache;
mod network;
mod session;
mod training;

use crate::{failure::Result, model::Model, placement::Placement, weights::load_checkpoint};
use merv_architectures::llama::{PROVIDED, open, resolve, unused};
use merv_plugin_api::{LanguageModelInfo, LanguageModelObject, LanguageModelRequest, PluginError};
use network::Llama;

/// Describes the language model that is requested.
pub fn describe(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
    let placement = checked(request)?;
    Ok(placed(resolve(request)?.info(), placement))
}

/// Loads the language model that is requested.
pub fn load(request: &LanguageModelRequest) -> Result<LanguageModelObject> {
    let placement = checked(request)?;
    let config = resolve(request)?;
    let checkpoint = open(&request.model.weights)?;
    let unused = unused(&config);
    let (network, learned) = load_checkpoint(checkpoint, &unused, placement, |scope| {
        Llama::new(&config, scope)
    })?;
    let info = placed(network.config.info(), placement);
    Ok(LanguageModelObject::trainable(Model::new(
        info, network, learned,
    )))
}

fn checked(request: &LanguageModelRequest) -> Result<Placement, PluginError> {
    let id = &request.model.id;
    if !PROVIDED.iter().any(|known| known.id() == id) {
        let known: Vec<_> = PROVIDED.iter().map(|known| known.id()).collect();
        return Err(PluginError::invalid(format!(
            "expected one of the language models {}; found `{id}`",
            known.join(", ")
        )));
    }
    Placement::of(&request.model)
}

fn placed(info: LanguageModelInfo, placement: Placement) -> LanguageModelInfo {
    info.device(placement.device)
        .dtype(placement.precision.dtype())
}
