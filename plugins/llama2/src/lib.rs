//! Llama as a `merv-host` plugin: any `LlamaForCausalLM` from safetensors.

mod cache;
mod config;
mod model;
mod rope;

use config::{Config, OneOrMany};
use merv_plugin_api::{
    DType, HostServices, LanguageModelInfo, LanguageModelObject, LanguageModelRequest, Manifest,
    Plugin, PluginError,
};
use merv_plugin_sdk::{
    checkpoint::published,
    config::{in_file, read},
    request, threads, weights,
};
use rope::Rope;

struct LlamaPlugin;

fn resolve(request: &LanguageModelRequest) -> Result<(Config, LanguageModelInfo), PluginError> {
    request::check_cpu_f32(&request.model)?;
    let id = request.model.id.as_str();
    let path = request::config(&request.model);
    let config = match &path {
        Some(path) => read::<Config>(path)?.normalised(),
        None => Config::published(id).ok_or_else(|| {
            PluginError::weights(format!(
                "`{id}` has no published sizes; expected a config.json beside its weights"
            ))
        })?,
    };
    in_file(path.as_deref(), config.check())?;
    in_file(path.as_deref(), Rope::new(&config))?;
    let info = LanguageModelInfo {
        width: config.hidden_size as u32,
        vocab_size: config.vocab_size as u32,
        context_length: config.max_position_embeddings as u32,
        bos: config.bos_token_id.into(),
        eos: config
            .eos_token_id
            .as_ref()
            .map(OneOrMany::to_vec)
            .unwrap_or_default()
            .into(),
        dtype: DType::F32,
        parameters: config.parameters(),
        macs_per_token: config.macs_per_token(),
        cache_bytes_per_token: config.cache_bytes_per_token(),
    };
    Ok((config, info))
}

impl Plugin for LlamaPlugin {
    fn manifest() -> Manifest {
        let llama2 = "Llama 2 Community License (meta-llama, accepted before download)";
        Manifest::new("llama2", env!("CARGO_PKG_VERSION"))
            .license(env!("CARGO_PKG_LICENSE"))
            .backend("candle")
            .llm("llama2-7b-pure", llama2)
            .llm("llama2-13b-pure", llama2)
            .llm("llama", "of the weights in question")
    }

    fn init(host: &HostServices) -> Result<(), PluginError> {
        threads::init(host)
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        Ok(resolve(request)?.1)
    }

    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        let (config, info) = resolve(request)?;
        // Older conversions store the rotary frequencies, which follow from the config.
        let mut unused: Vec<String> = (0..config.num_hidden_layers)
            .map(|index| format!("model.layers.{index}.self_attn.rotary_emb."))
            .collect();
        if config.tie_word_embeddings {
            unused.push("lm_head.".to_owned());
        }
        let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
        let paths = request::weights(&request.model);
        let checkpoint = weights::open(&paths, published::language_model_name)?;
        let model = weights::load_checkpoint(checkpoint, &unused, |scope| {
            model::Llama::new(&config, info, &scope)
        })?;
        Ok(LanguageModelObject::new(model))
    }
}

merv_plugin_api::export_plugin!(LlamaPlugin);
