//! The layers of a language model.

use super::config::Config;
use crate::{
    failure::Result,
    learned::Learned,
    model::Model,
    tensor::size,
    weights::{Linear, Weights},
};
use merv_plugin_api::{LanguageModelInfo, ModelSource, PluginError};
use tch::{Device, Kind, Tensor};

struct Norm {
    weight: Tensor,
    epsilon: f64,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), self.epsilon)?)
    }
}

struct Layer {
    input_norm: Norm,
    qkv: [Linear; 3],
    output: Linear,
    mlp_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The keys and values of a layer, `[batch, heads, positions, head_dim]`. They are replaced, not changed.
pub type Cache = (Tensor, Tensor);

/// Cosines and sines of positions, `[positions, head_dim]`.
struct Rotation(Tensor, Tensor);

impl Rotation {
    /// Rotates `[batch, heads, positions, head_dim]`.
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let halves = x.f_chunk(2, -1)?;
        let turned = match &halves[..] {
            [first, second] => Tensor::f_cat(&[second.f_neg()?, first.shallow_clone()], -1)?,
            _ => return Err(PluginError::invalid("the width of a head is odd").into()),
        };
        Ok(x.f_mul(&self.0)?.f_add(&turned.f_mul(&self.1)?)?)
    }
}

impl Layer {
    fn new(weights: &mut Weights, index: usize, config: &Config) -> Result<Self> {
        let (d, hidden) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.kv_heads() * config.head_dim();
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let mut linear = |part: &str, sizes| Linear::new(weights, &name(part), sizes, false);
        let qkv = [
            linear("self_attn.q_proj", [d, queries])?,
            linear("self_attn.k_proj", [d, keys])?,
            linear("self_attn.v_proj", [d, keys])?,
        ];
        let output = linear("self_attn.o_proj", [queries, d])?;
        let gate = linear("mlp.gate_proj", [d, hidden])?;
        let up = linear("mlp.up_proj", [d, hidden])?;
        let down = linear("mlp.down_proj", [hidden, d])?;
        Ok(Self {
            input_norm: norm(weights, &name("input_layernorm"), config)?,
            qkv,
            output,
            mlp_norm: norm(weights, &name("post_attention_layernorm"), config)?,
            gate,
            up,
            down,
        })
    }

    /// `[batch, length, width]` → the same, and the cache that has these positions too. `mask` says which positions may be
    /// read, `[…, length, past + length]`.
    fn forward(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        mask: &Tensor,
        past: Option<&Cache>,
    ) -> Result<(Tensor, Cache)> {
        let (batch, length, _) = x.size3()?;
        let head_dim = rotation.0.size().last().copied().unwrap_or(1);
        let normed = self.input_norm.forward(x)?;
        let heads = |linear: &Linear| -> Result<Tensor> {
            let y = linear.forward(&normed)?;
            Ok(y.f_view([batch, length, -1, head_dim])?.f_transpose(1, 2)?)
        };
        let [q, k, v] = &self.qkv;
        let q = rotation.apply(&heads(q)?)?;
        let (mut k, mut v) = (rotation.apply(&heads(k)?)?, heads(v)?);
        if let Some((keys, values)) = past {
            k = Tensor::f_cat(&[keys, &k], 2)?;
            v = Tensor::f_cat(&[values, &v], 2)?;
        }
        let mixed =
            Tensor::f_scaled_dot_product_attention(&q, &k, &v, Some(mask), 0.0, false, None, true)?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([batch, length, -1])?;
        let x = x.f_add(&self.output.forward(&mixed)?)?;
        let normed = self.mlp_norm.forward(&x)?;
        let gated = self.gate.forward(&normed)?.f_silu()?;
        let hidden = gated.f_mul(&self.up.forward(&normed)?)?;
        Ok((x.f_add(&self.down.forward(&hidden)?)?, (k, v)))
    }
}

fn norm(weights: &mut Weights, name: &str, config: &Config) -> Result<Norm> {
    Ok(Norm {
        weight: weights.take(&format!("{name}.weight"), &[config.hidden_size])?,
        epsilon: config.rms_norm_eps,
    })
}

/// The network.
pub struct Llama {
    /// `[vocab_size, width]`
    pub embeddings: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    pub head: Linear,
    /// `[head_dim / 2]`, in `f32` as in the original, because at large positions a rounding difference changes the angle.
    frequencies: Tensor,
}

/// Loads the language model.
pub fn load(model: &ModelSource) -> Result<Model<LanguageModelInfo, Llama>> {
    let config = Config::read(model)?;
    let mut weights = Weights::read(model)?;
    let table = [config.vocab_size, config.hidden_size];
    let embeddings = weights.take("model.embed_tokens.weight", &table)?;
    let layers =
        (0..config.num_hidden_layers).map(|index| Layer::new(&mut weights, index, &config));
    let layers = layers.collect::<Result<_>>()?;
    let norm = norm(&mut weights, "model.norm", &config)?;
    let head = match config.tie_word_embeddings {
        true => Linear::sharing(&embeddings),
        false => Linear::new(&mut weights, "lm_head", [table[1], table[0]], false)?,
    };
    let dim = config.head_dim();
    let frequencies = (0..dim / 2).map(|i| {
        let exponent = (2 * i) as f32 / dim as f32;
        1.0 / (config.rope_theta as f32).powf(exponent)
    });
    let network = Llama {
        embeddings,
        layers,
        norm,
        head,
        frequencies: Tensor::f_from_slice(&frequencies.collect::<Vec<f32>>())?,
    };
    Ok(Model::new(
        config.describe(),
        network,
        Learned::new(weights.taken),
    ))
}

impl Llama {
    fn rotation(&self, start: usize, length: i64) -> Result<Rotation> {
        let options = (Kind::Float, Device::Cpu);
        let positions = Tensor::f_arange_start(size(start), size(start) + length, options)?;
        let angles = positions.f_outer(&self.frequencies)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        Ok(Rotation(angles.f_cos()?, angles.f_sin()?))
    }

    /// `[batch, length, width]` at the positions from `start` on → hidden states after the last norm, and the caches.
    pub fn forward(
        &self,
        x: &Tensor,
        mask: &Tensor,
        past: &[Cache],
        start: usize,
    ) -> Result<(Tensor, Vec<Cache>)> {
        let rotation = self.rotation(start, x.size3()?.1)?;
        let (mut x, mut caches) = (x.shallow_clone(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            let (y, cache) = layer.forward(&x, &rotation, mask, past.get(index))?;
            x = y;
            caches.push(cache);
        }
        Ok((self.norm.forward(&x)?, caches))
    }

    /// Appends `[length, width]` to a session of `start` positions.
    pub fn append(
        &self,
        embeds: &Tensor,
        past: &[Cache],
        start: usize,
    ) -> Result<(Tensor, Vec<Cache>)> {
        let (length, _) = embeds.size2()?;
        let mask = causal(length, size(start))?;
        self.forward(&embeds.f_unsqueeze(0)?, &mask, past, start)
    }
}

/// Which of `past + length` positions each of the last `length` may read.
pub fn causal(length: i64, past: i64) -> Result<Tensor> {
    let all = Tensor::f_ones([length, past + length], (Kind::Bool, Device::Cpu))?;
    Ok(all.f_tril(past)?)
}
