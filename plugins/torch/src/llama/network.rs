//! The layers of a language model.

use super::rotation::Rope;
use crate::{
    failure::Result,
    layers::{Linear, RmsNorm, activate},
    tensor::size,
    weights::Scope,
};
use merv_architectures::{activation::Activation, llama::Config};
use std::ops::Range;
use tch::Tensor;

/// One layer.
pub struct Layer {
    attention_norm: RmsNorm,
    qkv: [Linear; 3],
    output: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
    head_dim: i64,
}

impl Layer {
    fn new(config: &Config, scope: &Scope<'_>) -> Self {
        let (d, h) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.kv_heads() * config.head_dim();
        let norm = |name| RmsNorm::new(d, config.rms_norm_eps, &scope.pp(name));
        let attention = |name, inputs, outputs, bias| {
            Linear::new(inputs, outputs, bias, &scope.pp("self_attn").pp(name))
        };
        let mlp = |name, inputs, outputs| {
            Linear::new(inputs, outputs, config.mlp_bias, &scope.pp("mlp").pp(name))
        };
        let (bias, output_bias) = (config.qkv_bias(), config.attention_bias);
        Self {
            attention_norm: norm("input_layernorm"),
            qkv: [
                attention("q_proj", d, queries, bias),
                attention("k_proj", d, keys, bias),
                attention("v_proj", d, keys, bias),
            ],
            output: attention("o_proj", queries, d, output_bias),
            mlp_norm: norm("post_attention_layernorm"),
            gate: mlp("gate_proj", d, h),
            up: mlp("up_proj", d, h),
            down: mlp("down_proj", h, d),
            activation: config.hidden_act,
            head_dim: size(config.head_dim()),
        }
    }

    /// `[batch, length, width]` → the same. `mix` computes the attention from queries, keys and values `[batch, heads, length,
    /// head_dim]`, `[batch, heads, length, head_dim]`.
    pub fn forward(
        &self,
        x: &Tensor,
        mix: impl FnOnce([Tensor; 3]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (batch, length, _) = x.size3()?;
        let normed = self.attention_norm.forward(x)?;
        let heads = |linear: &Linear| -> Result<Tensor> {
            let y = linear.forward(&normed)?;
            let y = y.f_view([batch, length, -1, self.head_dim])?;
            Ok(y.f_transpose(1, 2)?)
        };
        let [q, k, v] = &self.qkv;
        let mixed = mix([heads(q)?, heads(k)?, heads(v)?])?;
        let mixed = mixed.f_transpose(1, 2)?.f_flatten(2, 3)?;
        let x = x.f_add(&self.output.forward(&mixed)?)?;
        let normed = self.mlp_norm.forward(&x)?;
        let gate = activate(&self.gate.forward(&normed)?, self.activation)?;
        let hidden = gate.f_mul(&self.up.forward(&normed)?)?;
        Ok(x.f_add(&self.down.forward(&hidden)?)?)
    }
}

/// The places of parameters among all. The embedding table is the first.
pub struct Places {
    /// That of the head. Empty if it shares the embedding table.
    pub head: Range<usize>,
    pub layers: Vec<Range<usize>>,
    pub norm: Range<usize>,
}

/// The network.
pub struct Llama {
    /// `[vocab_size, width]`
    pub embeddings: Tensor,
    pub layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    pub rope: Rope,
    pub config: Config,
    pub places: Places,
}

impl Llama {
    /// Takes the weights from `scope`. The size of the vocabulary is that of the embedding table.
    pub fn new(config: &Config, scope: &Scope<'_>) -> Result<Self> {
        let model = scope.pp("model");
        let embedding = model.pp("embed_tokens");
        let mut config = config.clone();
        // The table may be padded, while the config still has the original size.
        if let Some(&[rows, _]) = embedding.shape("weight") {
            config.vocab_size = rows;
        }
        config.check()?;
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let embeddings = embedding.matrix("weight", &[vocab, d]);
        let of_head = scope.taken();
        let head = match config.tie_word_embeddings {
            true => Linear::from_parts(&embeddings, None),
            false => Linear::new(d, vocab, false, &scope.pp("lm_head")),
        };
        let head_places = of_head..scope.taken();
        let mut of_layers = Vec::new();
        let layers = (0..config.num_hidden_layers).map(|index| {
            let first = scope.taken();
            let layer = Layer::new(&config, &model.pp("layers").pp(index));
            of_layers.push(first..scope.taken());
            layer
        });
        let layers = layers.collect();
        let of_norm = scope.taken();
        let norm = RmsNorm::new(d, config.rms_norm_eps, &model.pp("norm"));
        Ok(Self {
            embeddings,
            layers,
            norm,
            head,
            rope: Rope::new(&config, scope)?,
            places: Places {
                head: head_places,
                layers: of_layers,
                norm: of_norm..scope.taken(),
            },
            config,
        })
    }

    /// Returns the rows `ids` of the embedding table, `[ids, width]` of `f32`.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let rows = self.embeddings.f_index_select(0, ids)?;
        Ok(rows.f_to_kind(tch::Kind::Float)?)
    }

    /// `[…, width]` → the same, normed
    pub fn normed(&self, hidden: &Tensor) -> Result<Tensor> {
        self.norm.forward(hidden)
    }

    /// `[…, width]`, normed → `[…, vocab_size]` of `f32`
    pub fn logits(&self, normed: &Tensor) -> Result<Tensor> {
        Ok(self.head.forward(normed)?.f_to_kind(tch::Kind::Float)?)
    }
}
