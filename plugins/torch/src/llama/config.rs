//! The sizes of a language model.

use crate::config;
use merv_plugin_api::{LanguageModelInfo, ModelSource, PluginError};
use serde::Deserialize;

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

/// What is used of `config.json`.
#[derive(Deserialize, Clone)]
pub struct Config {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub vocab_size: usize,
    max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
    model_type: Option<String>,
    hidden_act: Option<String>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

fn rope_theta() -> f64 {
    10000.0
}

impl Config {
    /// Reads the config, and checks that it describes a model that is built here.
    pub fn read(model: &ModelSource) -> Result<Self, PluginError> {
        let read: Option<Self> = config::read(model)?;
        let config = read.ok_or_else(|| PluginError::weights("there is no `config.json`"))?;
        let refused = [
            (
                "model_type",
                config
                    .model_type
                    .as_deref()
                    .is_some_and(|kind| kind != "llama"),
            ),
            (
                "hidden_act",
                config
                    .hidden_act
                    .as_deref()
                    .is_some_and(|name| name != "silu"),
            ),
            ("rope_scaling", config.rope_scaling.is_some()),
            ("attention_bias", config.attention_bias),
            ("mlp_bias", config.mlp_bias),
        ];
        if let Some((key, _)) = refused.iter().find(|(_, refused)| *refused) {
            return Err(PluginError::unsupported(format!(
                "`{key}` in config.json: this plugin does not build such a model"
            )));
        }
        let heads = [
            config.num_attention_heads,
            config.kv_heads(),
            config.head_dim(),
        ];
        let [queries, keys, head] = heads;
        if heads.contains(&0) || queries % keys != 0 || head % 2 != 0 {
            return Err(PluginError::weights(format!(
                "config.json: {queries} heads cannot share {keys} keys of width {head}"
            )));
        }
        Ok(config)
    }

    /// Returns the number of heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Returns the width of a head.
    pub fn head_dim(&self) -> usize {
        let whole = || self.hidden_size.checked_div(self.num_attention_heads);
        self.head_dim.or_else(whole).unwrap_or_default()
    }

    /// Describes the model.
    pub fn describe(&self) -> LanguageModelInfo {
        let eos = match self.eos_token_id.clone() {
            None => Vec::new(),
            Some(Ids::One(id)) => vec![id],
            Some(Ids::Several(ids)) => ids,
        };
        let [d, hidden, layers, vocab] = [
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_layers,
            self.vocab_size,
        ]
        .map(|n| n as u64);
        let [queries, keys] = [self.num_attention_heads, self.kv_heads()]
            .map(|heads| (heads * self.head_dim()) as u64);
        let layer = d * (2 * queries + 2 * keys) + 3 * d * hidden;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let parameters = tables * vocab * d + layers * (layer + 2 * d) + d;
        LanguageModelInfo::new(d as u32, vocab as u32, self.max_position_embeddings as u32)
            .bos(self.bos_token_id)
            .eos(eos)
            .cost(
                parameters,
                layers * layer + vocab * d,
                2 * layers * keys * size_of::<f32>() as u64,
            )
    }
}
