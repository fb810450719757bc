//! The sizes of a Llama or Qwen2 model: Hugging Face's `config.json` (`LlamaConfig`, `Qwen2Config`).

use crate::{
    Result,
    activation::Activation,
    config::{MAX_LAYERS, MAX_SIZE, clamped, require, within},
};
use merv_plugin_api::LanguageModelInfo;
use serde::{Deserialize, de::IgnoredAny};

/// The largest number of positions.
const MAX_POSITIONS: usize = 1 << 24;

/// The sizes, with Hugging Face's names.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// `llama` or `qwen2`; any other value is refused.
    #[serde(default)]
    pub model_type: Architecture,
    /// D: the width.
    pub hidden_size: usize,
    /// The width of the MLP.
    pub intermediate_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of query heads.
    pub num_attention_heads: usize,
    /// The number of key and value heads. The default is the number of query heads.
    pub num_key_value_heads: Option<usize>,
    /// The width of a head. The default is the width of the model divided by the number of heads.
    pub head_dim: Option<usize>,
    /// The number of rows of the embedding table.
    pub vocab_size: usize,
    /// The number of positions.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// The epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// The activation of the MLP.
    #[serde(default = "silu")]
    pub hidden_act: Activation,
    /// The base of the rotary embedding.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// The scaling of the rotary embedding for longer texts.
    pub rope_scaling: Option<RopeScaling>,
    /// The two settings above, as transformers 5 writes them.
    pub rope_parameters: Option<RopeParameters>,
    /// Set for weights in a quantised format, which these kernels do not support.
    pub quantization_config: Option<IgnoredAny>,
    /// The part of a head that is rotated; the whole head in every Llama model.
    pub partial_rotary_factor: Option<f64>,
    /// Which coordinates of a head are rotated together. It is not in the config: Hugging Face's models
    /// always use halves.
    #[serde(skip)]
    pub rope_pairs: RopePairs,
    /// Qwen2: whether late layers attend only to a window. No published model does.
    #[serde(default)]
    pub use_sliding_window: bool,
    /// The kind of attention of each layer, in newer configs.
    pub layer_types: Option<Vec<String>>,
    /// Whether the embedding table is also the output projection.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether all projections of the attention have biases. In a Qwen2 model all but the output projection
    /// do, regardless of this setting.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the layers of the MLP have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The token or tokens that end a reply.
    pub eos_token_id: Option<OneOrMany>,
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

/// The architecture: `model_type` in Hugging Face's configs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama 2, 3 and 3.1, Vicuna, and other models of the same architecture.
    #[default]
    Llama,
    /// Qwen2 and 2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on query, key and value.
    Qwen2,
    /// An unsupported architecture.
    #[serde(untagged)]
    Other(String),
}

/// Which coordinates of a head the rotary embedding rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RopePairs {
    /// Coordinate `i` of the first half and coordinate `i` of the second half, as in Hugging Face's weights.
    #[default]
    Halves,
    /// Adjacent coordinates, as in Meta's own weights and in GGUF files of Llama models.
    Interleaved,
}

/// A token id, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One id.
    One(u32),
    /// A list of ids.
    Many(Vec<u32>),
}

impl OneOrMany {
    /// Returns the ids as a list.
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

/// The rotary embedding as transformers 5 writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct RopeParameters {
    rope_theta: Option<f64>,
    #[serde(flatten)]
    scaling: RopeScaling,
}

/// The sizes without a default.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// D: the width.
    pub hidden: usize,
    /// The width of the MLP.
    pub intermediate: usize,
    /// The number of layers.
    pub layers: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads.
    pub kv_heads: usize,
    /// The number of rows of the embedding table.
    pub vocab: usize,
}

/// The scaling of the rotary embedding's frequencies.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct RopeScaling {
    /// `default`, `linear` or `llama3`.
    rope_type: Option<String>,
    /// The older name of `rope_type`. Some files have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    /// The part of a head that is rotated, as transformers 5 writes it.
    pub partial_rotary_factor: Option<f64>,
    /// The divisor of the frequencies.
    pub factor: Option<f64>,
    /// `llama3`: frequencies are divided by `factor` if their wavelength is longer than the original context
    /// length divided by this.
    pub low_freq_factor: Option<f64>,
    /// `llama3`: frequencies do not change if their wavelength is shorter than the original context length
    /// divided by this.
    pub high_freq_factor: Option<f64>,
    /// `llama3`: the original context length.
    pub original_max_position_embeddings: Option<usize>,
}

impl RopeScaling {
    /// Makes a scaling of a kind whose only setting is `factor`. An unknown kind is refused later.
    pub fn by_factor(kind: &str, factor: f64) -> Self {
        Self {
            rope_type: Some(kind.to_owned()),
            factor: Some(factor),
            ..Self::default()
        }
    }

    /// Makes a scaling of kind `llama3`, which divides low frequencies by `factor`, as in Llama 3.1.
    pub fn llama3(factor: f64, low: f64, high: f64, original_context: usize) -> Self {
        Self {
            rope_type: Some("llama3".to_owned()),
            factor: Some(factor),
            low_freq_factor: Some(low),
            high_freq_factor: Some(high),
            original_max_position_embeddings: Some(original_context),
            ..Self::default()
        }
    }

    /// Returns the kind of scaling. Without a kind and without a factor it is `default`.
    pub fn kind(&self) -> &str {
        let missing = if self.factor.is_some() {
            "(none)"
        } else {
            "default"
        };
        self.rope_type
            .as_deref()
            .or(self.older_type.as_deref())
            .unwrap_or(missing)
    }
}

impl Config {
    /// Makes the config of a Llama model of these sizes, with the defaults of `LlamaConfig`.
    pub fn new(sizes: Sizes) -> Self {
        Self {
            model_type: Architecture::Llama,
            hidden_size: sizes.hidden,
            intermediate_size: sizes.intermediate,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            num_key_value_heads: Some(sizes.kv_heads),
            head_dim: None,
            vocab_size: sizes.vocab,
            max_position_embeddings: default_positions(),
            rms_norm_eps: default_epsilon(),
            hidden_act: silu(),
            rope_theta: default_theta(),
            rope_scaling: None,
            rope_parameters: None,
            quantization_config: None,
            partial_rotary_factor: None,
            rope_pairs: RopePairs::Halves,
            use_sliding_window: false,
            layer_types: None,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            bos_token_id: None,
            eos_token_id: None,
        }
    }

    /// Moves the settings of the rotary embedding from `rope_parameters` to the older keys.
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

    /// Checks the config.
    ///
    /// # Errors
    ///
    /// When a size is out of range, the numbers of heads are inconsistent, or the architecture or a setting
    /// is not supported.
    pub fn check(&self) -> Result<()> {
        if let Architecture::Other(name) = &self.model_type {
            require(false, || {
                format!("expected the model type `llama` or `qwen2`, found `{name}`")
            })?;
        }
        require(!self.use_sliding_window, || {
            "expected attention to the whole text, found `use_sliding_window`".to_owned()
        })?;
        let layers = self.layer_types.as_deref().unwrap_or_default();
        let other = layers.iter().find(|kind| *kind != "full_attention");
        require(other.is_none(), || {
            format!(
                "expected every `layer_types` to be `full_attention`, found `{}`",
                other.map_or("", String::as_str)
            )
        })?;
        require(self.quantization_config.is_none(), || {
            "expected weights that are not quantised, found `quantization_config`".to_owned()
        })?;
        require(
            self.partial_rotary_factor.is_none_or(|share| share == 1.0),
            || {
                "expected a rotary embedding of whole heads, found `partial_rotary_factor`"
                    .to_owned()
            },
        )?;
        for (name, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
        ] {
            require(value.is_finite() && value > 0.0, || {
                format!("expected a positive `{name}`, found {value}")
            })?;
        }
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
            || format!("expected heads of even width, found {}", self.head_dim()),
        )
    }

    /// Returns the description of the model for the host, in `f32` on the CPU.
    pub fn info(&self) -> LanguageModelInfo {
        let eos = self.eos_token_id.as_ref().map(OneOrMany::to_vec);
        let (parameters, macs) = (self.parameters(), self.macs_per_token());
        LanguageModelInfo::new(
            self.hidden_size as u32,
            self.vocab_size as u32,
            self.max_position_embeddings as u32,
        )
        .bos(self.bos_token_id)
        .eos(eos.unwrap_or_default())
        .cost(parameters, macs, self.cache_bytes_per_token())
    }

    /// Returns whether query, key and value have biases.
    pub fn qkv_bias(&self) -> bool {
        self.attention_bias || self.model_type == Architecture::Qwen2
    }

    /// Returns the number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Returns the width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or_else(|| {
            self.hidden_size
                .checked_div(self.num_attention_heads)
                .unwrap_or(0)
        })
    }

    /// Returns the multiply-accumulate operations of one layer for one token.
    fn layer_macs(&self) -> u128 {
        let sizes = [self.hidden_size, self.head_dim(), self.intermediate_size];
        let [d, head_dim, h] = sizes.map(|size| size as u128);
        let heads = (self.num_attention_heads + self.kv_heads()) as u128;
        2 * d * head_dim * heads + 3 * d * h
    }

    /// Returns the number of parameters.
    pub fn parameters(&self) -> u64 {
        let sizes = [
            self.hidden_size,
            self.head_dim(),
            self.intermediate_size,
            self.vocab_size,
        ];
        let [d, head_dim, h, vocab] = sizes.map(|size| size as u128);
        let heads = (self.num_attention_heads + 2 * self.kv_heads()) as u128;
        let qkv_bias = if self.qkv_bias() { head_dim * heads } else { 0 };
        let output_bias = if self.attention_bias { d } else { 0 };
        let mlp_bias = if self.mlp_bias { 2 * h + d } else { 0 };
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let layer = self.layer_macs() + qkv_bias + output_bias + mlp_bias + 2 * d;
        clamped(tables * vocab * d + self.num_hidden_layers as u128 * layer + d)
    }

    /// Returns the multiply-accumulate operations for one token, without attention over the context.
    pub fn macs_per_token(&self) -> u64 {
        let head = (self.vocab_size * self.hidden_size) as u128;
        clamped(self.num_hidden_layers as u128 * self.layer_macs() + head)
    }

    /// Returns the number of bytes of keys and values that a session keeps for each position.
    pub fn cache_bytes_per_token(&self) -> u64 {
        let values = 2 * self.num_hidden_layers * self.kv_heads();
        clamped(values as u128 * self.head_dim() as u128 * size_of::<f32>() as u128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let sizes = Sizes {
            hidden: 6,
            intermediate: 5,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            vocab: 7,
        };
        Config {
            head_dim: Some(10),
            ..Config::new(sizes)
        }
    }

    // The sizes of the tensors of Hugging Face's `LlamaForCausalLM`, for the config above.
    const TABLE: u64 = 7 * 6;
    const QUERY: u64 = 4 * 10 * 6;
    const KEY: u64 = 2 * 10 * 6;
    const MLP: u64 = 3 * 5 * 6;
    const NORM: u64 = 6;
    const LAYER: u64 = 2 * QUERY + 2 * KEY + MLP + 2 * NORM;

    #[test]
    fn every_tensor_is_counted() {
        let mut changed = config();
        let plain = 2 * TABLE + 3 * LAYER + NORM;
        assert_eq!(changed.parameters(), plain);
        changed.tie_word_embeddings = true;
        assert_eq!(changed.parameters(), plain - TABLE);
        // Biases: query, key and value are 40, 20 and 20 wide, the output 6.
        changed = config();
        changed.attention_bias = true;
        assert_eq!(changed.parameters(), plain + 3 * (40 + 20 + 20 + 6));
        changed = config();
        changed.model_type = Architecture::Qwen2;
        assert_eq!(changed.parameters(), plain + 3 * (40 + 20 + 20));
        // Biases of the MLP: two are 5 wide, the last is 6.
        changed = config();
        changed.mlp_bias = true;
        assert_eq!(changed.parameters(), plain + 3 * (5 + 5 + 6));
    }

    #[test]
    fn macs_and_cache_are_counted_for_one_token() {
        assert_eq!(config().macs_per_token(), 3 * (LAYER - 2 * NORM) + TABLE);
        // Keys and values of 2 heads in each layer, 4 bytes per number.
        assert_eq!(config().cache_bytes_per_token(), 3 * 2 * 2 * 10 * 4);
    }

    /// A rotary embedding rotates pairs of coordinates, and query heads share key heads in equal groups.
    #[test]
    fn heads_must_be_even_and_share_key_heads_equally() {
        config().check().unwrap();
        let with = |head_dim, hidden_size, num_key_value_heads| Config {
            head_dim,
            hidden_size,
            num_key_value_heads,
            ..config()
        };
        with(None, 8, Some(4)).check().unwrap();
        for (wrong, words) in [
            (with(Some(9), 6, Some(2)), "even width, found 9"),
            (with(None, 12, Some(2)), "even width, found 3"),
            (with(None, 10, Some(2)), "expected heads"),
            (with(Some(10), 6, Some(3)), "3 key heads do not divide 4"),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn heads_share_the_width_by_default() {
        let default = Config {
            hidden_size: 8,
            head_dim: None,
            num_key_value_heads: None,
            ..config()
        };
        assert_eq!((default.head_dim(), default.kv_heads()), (2, 4));
        assert_eq!((config().head_dim(), config().kv_heads()), (10, 2));
    }

    #[test]
    fn info_lists_every_eos_token() {
        for (eos, expected) in [
            (Some(OneOrMany::One(2)), &[2][..]),
            (Some(OneOrMany::Many(vec![5, 3])), &[5, 3]),
            (None, &[]),
        ] {
            let config = Config {
                eos_token_id: eos,
                bos_token_id: Some(4),
                ..config()
            };
            let info = config.info();
            assert_eq!(info.eos.as_slice(), expected);
            assert_eq!(info.bos, Some(4));
            assert_eq!((info.width, info.vocab_size), (6, 7));
        }
    }
}
