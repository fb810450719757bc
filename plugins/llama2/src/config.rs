//! The sizes of a Llama: Hugging Face's `config.json` (`LlamaConfig`).

use merv_plugin_sdk::{
    Result,
    activation::Activation,
    config::{MAX_LAYERS, MAX_SIZE, clamped, require, within},
};
use serde::{Deserialize, de::IgnoredAny};

/// Positions at most.
const MAX_POSITIONS: usize = 1 << 24;

/// The sizes, by Hugging Face's names.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// `llama`; any other is another architecture.
    #[serde(default = "llama")]
    pub model_type: String,
    /// D: the width.
    pub hidden_size: usize,
    /// Width of the perceptron.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads when absent.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; the model's width over the heads when absent.
    pub head_dim: Option<usize>,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Positions.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// The perceptron's activation.
    #[serde(default = "silu")]
    pub hidden_act: Activation,
    /// The base of the rotary embedding.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// How the rotary embedding is stretched for longer texts.
    pub rope_scaling: Option<RopeScaling>,
    /// Where transformers 5 writes both.
    rope_parameters: Option<RopeParameters>,
    /// Weights in a format of their own; not for these kernels.
    quantization_config: Option<IgnoredAny>,
    /// The share of a head that turns; all of it in every Llama.
    partial_rotary_factor: Option<f64>,
    /// Whether the embedding table is also the output projection.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether the attention's layers have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the perceptron's layers have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The token or tokens that end a reply.
    pub eos_token_id: Option<OneOrMany>,
}

fn llama() -> String {
    "llama".to_owned()
}

fn default_positions() -> usize {
    2048
}

fn default_epsilon() -> f64 {
    1e-6
}

fn silu() -> Activation {
    Activation::Silu
}

fn default_theta() -> f64 {
    10_000.0
}

/// A token id, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(u32),
    /// Several.
    Many(Vec<u32>),
}

impl OneOrMany {
    /// As a list.
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

/// The rotary embedding as transformers 5 writes it.
#[derive(Debug, Clone, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    #[serde(flatten)]
    scaling: RopeScaling,
}

/// How the frequencies of the rotary embedding are scaled.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RopeScaling {
    /// `default`, `linear` or `llama3`.
    rope_type: Option<String>,
    /// The same by its older name; some files have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    /// The share of a head that turns, where transformers 5 writes it.
    partial_rotary_factor: Option<f64>,
    /// By how much.
    pub factor: Option<f64>,
    /// `llama3`: wavelengths longer than the original context over this are divided by `factor`.
    pub low_freq_factor: Option<f64>,
    /// `llama3`: wavelengths shorter than the original context over this are left alone.
    pub high_freq_factor: Option<f64>,
    /// `llama3`: the original context.
    pub original_max_position_embeddings: Option<usize>,
}

impl RopeScaling {
    /// The kind of scaling; `default` where nothing says so and nothing is scaled.
    pub fn kind(&self) -> &str {
        let unsaid = if self.factor.is_some() {
            "(none)"
        } else {
            "default"
        };
        self.rope_type
            .as_deref()
            .or(self.older_type.as_deref())
            .unwrap_or(unsaid)
    }
}

impl Config {
    /// Llama-2 with its table grown to a multiple of 64 for MERV's `<PAD>`, by model id.
    pub fn published(id: &str) -> Option<Self> {
        let sized = |hidden_size, intermediate_size, num_hidden_layers, num_attention_heads| Self {
            model_type: llama(),
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size: 32_064,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-5,
            hidden_act: silu(),
            rope_theta: default_theta(),
            rope_scaling: None,
            rope_parameters: None,
            quantization_config: None,
            partial_rotary_factor: None,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            bos_token_id: Some(1),
            eos_token_id: Some(OneOrMany::One(2)),
        };
        match id {
            "llama2-7b-pure" => Some(sized(4096, 11_008, 32, 32)),
            "llama2-13b-pure" => Some(sized(5120, 13_824, 40, 40)),
            _ => None,
        }
    }

    /// The same with the rotary embedding's settings where older configs have them.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        if let Some(RopeParameters {
            rope_theta,
            scaling,
        }) = self.rope_parameters.take()
        {
            self.rope_theta = rope_theta.unwrap_or(self.rope_theta);
            self.partial_rotary_factor =
                self.partial_rotary_factor.or(scaling.partial_rotary_factor);
            self.rope_scaling = Some(scaling);
        }
        self
    }

    /// Refuses sizes that make no model.
    ///
    /// # Errors
    ///
    /// When a size is zero, heads do not fit each other, or it is another architecture.
    pub fn check(&self) -> Result<()> {
        require(self.model_type == "llama", || {
            format!(
                "expected the model type `llama`, found `{}`",
                self.model_type
            )
        })?;
        require(self.quantization_config.is_none(), || {
            "expected plain weights, found `quantization_config`".to_owned()
        })?;
        require(
            self.partial_rotary_factor.is_none_or(|share| share == 1.0),
            || "expected heads that turn as a whole, found `partial_rotary_factor`".to_owned(),
        )?;
        within(
            MAX_SIZE,
            &[
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_attention_heads", self.num_attention_heads),
                ("num_key_value_heads", self.kv_heads()),
                ("head_dim", self.head_dim()),
                ("vocab_size", self.vocab_size),
            ],
        )?;
        within(
            MAX_POSITIONS,
            &[("max_position_embeddings", self.max_position_embeddings)],
        )?;
        within(MAX_LAYERS, &[("num_hidden_layers", self.num_hidden_layers)])?;
        require(
            self.num_attention_heads.is_multiple_of(self.kv_heads()),
            || {
                format!(
                    "{} key heads do not divide {} query heads",
                    self.kv_heads(),
                    self.num_attention_heads
                )
            },
        )?;
        let fits =
            self.head_dim.is_some() || self.hidden_size.is_multiple_of(self.num_attention_heads);
        require(
            fits && self.head_dim() > 0 && self.head_dim().is_multiple_of(2),
            || {
                format!(
                    "expected an even width of a head, found {}",
                    self.head_dim()
                )
            },
        )
    }

    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or_else(|| {
            self.hidden_size
                .checked_div(self.num_attention_heads)
                .unwrap_or(0)
        })
    }

    /// Multiply-accumulates of one layer's products for one token.
    fn layer_macs(&self) -> u128 {
        let sizes = [self.hidden_size, self.head_dim(), self.intermediate_size];
        let [d, head_dim, h] = sizes.map(|size| size as u128);
        let heads = (self.num_attention_heads + self.kv_heads()) as u128;
        2 * d * head_dim * heads + 3 * d * h
    }

    /// Parameters.
    pub fn parameters(&self) -> u64 {
        let sizes = [
            self.hidden_size,
            self.head_dim(),
            self.intermediate_size,
            self.vocab_size,
        ];
        let [d, head_dim, h, vocab] = sizes.map(|size| size as u128);
        let heads = (self.num_attention_heads + 2 * self.kv_heads()) as u128;
        let attention_bias = if self.attention_bias {
            head_dim * heads + d
        } else {
            0
        };
        let mlp_bias = if self.mlp_bias { 2 * h + d } else { 0 };
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let layer = self.layer_macs() + attention_bias + mlp_bias + 2 * d;
        clamped(tables * vocab * d + self.num_hidden_layers as u128 * layer + d)
    }

    /// Multiply-accumulates for one token, attention over the context left out.
    pub fn macs_per_token(&self) -> u64 {
        let head = (self.vocab_size * self.hidden_size) as u128;
        clamped(self.num_hidden_layers as u128 * self.layer_macs() + head)
    }

    /// Bytes of keys and values that a session keeps for each position.
    pub fn cache_bytes_per_token(&self) -> u64 {
        let values = 2 * self.num_hidden_layers * self.kv_heads();
        clamped(values as u128 * self.head_dim() as u128 * size_of::<f32>() as u128)
    }
}
