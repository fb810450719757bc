//! A `merv-host` plugin for Llama and Qwen2: any `LlamaForCausalLM` or `Qwen2ForCausalLM`, from
//! safetensors, PyTorch or GGUF files. Quantised GGUF weights are used as they are.

mod cache;
mod rope;
mod model;
mod train;

use merv_plugin_api::{
    HostServices, LanguageModelInfo, LanguageModelObject, LanguageModelRequest, Manifest, Plugin,
    PluginError,
};
use merv_plugin_sdk::{
    architectures::llama::{PROVIDED, open, resolve, unused},
    request, threads, weights,
};

struct LlamaPlugin;

impl Plugin for LlamaPlugin {
    const MANIFEST: Manifest = Manifest::new("llama2", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .backend("candle")
        .provides(&PROVIDED);

    fn init(host: &HostServices) -> Result<(), PluginError> {
        threads::init(host)
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        let precision = request::precision(&request.model)?;
        Ok(resolve(request)?.info().dtype(precision.dtype()))
    }

    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        let precision = request::precision(&request.model)?;
        let config = resolve(request)?;
        let checkpoint = open(&request.model.weights)?;
        let unused = unused(&config);
        let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
        let model = weights::load_checkpoint(checkpoint, &unused, |scope| {
            model::Llama::new(&config, &scope.in_precision(precision))
        })?;
        Ok(LanguageModelObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(LlamaPlugin);
