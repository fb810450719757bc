//! Llama (arXiv 2302.13971, 2307.09288) and Qwen2 (arXiv 2407.10671): the ids of the language models, their sizes, and the
//! names of their weights in the files of Hugging Face, MERV and ggml.

mod config;
mod rope;
mod gguf;
mod published;
mod inputs;

pub use config::{Architecture, Config, OneOrMany, RopePairs, RopeParameters, RopeScaling, Sizes};
pub use inputs::{
    check_embeds, check_embeds_gradient, check_id, check_labels, check_room, check_texts,
    check_truncation, predicted,
};
pub use rope::frequencies;

use crate::{
    Result,
    checkpoint::{Checkpoint, published::language_model_name},
    config::{in_file, read},
    weights,
};
use merv_plugin_api::{LanguageModelRequest, PluginError, Provided, feature};
use std::path::PathBuf;

/// The licences of published weights.
const LLAMA_2: &str = "Llama 2 Community License (meta-llama, accepted before download)";
const LLAMA_3: &str = "Llama 3 Community License (meta-llama, accepted before download)";
const LLAMA_3_1: &str = "Llama 3.1 Community License (meta-llama, accepted before download)";

/// Weights of any model of a family.
const ANY: &str = "of the weights in question";

/// The language models: those of MERV, whose sizes are known, and any other.
pub const PROVIDED: [Provided; 13] = [
    llm("llama2-7b-pure", LLAMA_2),
    llm("llama2-13b-pure", LLAMA_2),
    llm("llama2-7b-chat", LLAMA_2),
    llm("llama2-13b-chat", LLAMA_2),
    llm("vicuna-v15-7b", LLAMA_2),
    llm("vicuna-v15-13b", LLAMA_2),
    llm("llama3-8b-pure", LLAMA_3),
    llm("llama3-8b-chat", LLAMA_3),
    llm("llama3.1-8b-chat", LLAMA_3_1),
    llm("qwen2.5-7b-instruct", "Apache 2.0"),
    llm("qwen2.5-3b-instruct", "Qwen Research License"),
    llm("llama", ANY),
    llm("qwen2", ANY),
];

const fn llm(id: &'static str, license: &'static str) -> Provided {
    Provided::llm(id, license).features(&[feature::TRAIN, feature::CANCEL])
}

/// Reads the sizes of the model that is requested: those of its config file, of its GGUF file, or the published ones.
///
/// # Errors
///
/// When there are none, the file cannot be read, or it describes a model that is not supported.
pub fn resolve(request: &LanguageModelRequest) -> Result<Config> {
    let id = request.model.id.as_str();
    let weights = request.model.weights.clone();
    // A GGUF file contains its own config. The host also passes it as the config file, even before it passes
    // the weights.
    let given = request.model.config.clone();
    let path = given.or_else(|| weights.into_iter().find(|path| gguf::is_gguf(path)));
    let config = match &path {
        Some(path) if gguf::is_gguf(path) => gguf::config(path)?,
        Some(path) => read::<Config>(path)?.normalised(),
        None => published::published(id).ok_or_else(|| {
            PluginError::weights(format!(
                "`{id}` has no published sizes; expected a config.json next to its weights"
            ))
        })?,
    };
    in_file(path.as_deref(), config.check())?;
    in_file(path.as_deref(), frequencies(&config))?;
    Ok(config)
}

/// Opens the weights, from their own files, from MERV's checkpoint or from a GGUF file. The tensors get
/// Hugging Face's names.
///
/// # Errors
///
/// As for [`weights::open`].
pub fn open(paths: &[PathBuf]) -> Result<Checkpoint> {
    let is_gguf = paths.iter().any(|path| gguf::is_gguf(path));
    weights::open(paths, |name| {
        if is_gguf {
            Some(gguf::hugging_face_name(name))
        } else {
            language_model_name(name)
        }
    })
}

/// Returns the tensors that the files may have although the model does not need them. Older conversions store the rotary
/// frequencies, which are computed from the config here.
pub fn unused(config: &Config) -> Vec<String> {
    let mut unused: Vec<String> = (0..config.num_hidden_layers)
        .map(|index| format!("model.layers.{index}.self_attn.rotary_emb."))
        .collect();
    if config.tie_word_embeddings {
        unused.push("lm_head.".to_owned());
    }
    unused
}

/// The divisors of the rotary frequencies in GGUF files of Llama 3.1, which store them instead of the scaling of the config.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_configs_have_the_published_numbers_of_parameters() {
        let billions = |id: &str| {
            let config = published::published(id).unwrap();
            config.check().unwrap();
            frequencies(&config).unwrap();
            config.parameters() as f64 / 1e9
        };
        // From the model cards, which round off more than the padding of the table adds.
        for (id, expected) in [
            ("llama2-7b-pure", 6.74),
            ("llama2-7b-chat", 6.74),
            ("llama2-13b-pure", 13.02),
            ("llama2-13b-chat", 13.02),
            ("vicuna-v15-7b", 6.74),
            ("vicuna-v15-13b", 13.02),
            ("llama3-8b-pure", 8.03),
            ("llama3-8b-chat", 8.03),
            ("llama3.1-8b-chat", 8.03),
            ("qwen2.5-3b-instruct", 3.09),
            ("qwen2.5-7b-instruct", 7.62),
        ] {
            assert!(
                (billions(id) - expected).abs() < 0.006,
                "{id}: {}",
                billions(id)
            );
        }
        let mut published = PROVIDED[..11].iter().map(Provided::id);
        assert!(published.all(|id| billions(id) > 1.0));
    }
}
