//! Llama (arXiv 2307.09288; Hugging Face's `LlamaForCausalLM`).

use crate::{
    config,
    failure::Result,
    learned::Learned,
    model::{Model, places},
    tensor::{copied_as, given, size},
    weights::{Linear, Weights},
};
use merv_plugin_api::{
    Backward, IGNORED_LABEL, LanguageModel, LanguageModelInfo, LogitsAt, LossAndGradient,
    ModelSource, PluginError, ReadyGradients, TensorBuf, TensorView, TrainableLanguageModel,
    TrainingTexts,
};
use serde::Deserialize;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

/// The place of the embedding table among the parameters.
const EMBEDDINGS: usize = 0;

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

/// What is used of `config.json`.
#[derive(Deserialize, Clone)]
pub struct Config {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default = "rope_theta")]
    rope_theta: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
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

    fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn head_dim(&self) -> usize {
        let whole = || self.hidden_size.checked_div(self.num_attention_heads);
        self.head_dim.or_else(whole).unwrap_or_default()
    }

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
type Cache = (Tensor, Tensor);

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
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
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
    fn forward(
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
    fn append(
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
fn causal(length: i64, past: i64) -> Result<Tensor> {
    let all = Tensor::f_ones([length, past + length], (Kind::Bool, Device::Cpu))?;
    Ok(all.f_tril(past)?)
}

/// The state of one text.
pub struct Session {
    length: usize,
    /// One for each layer, or none while the session is empty.
    caches: Vec<Cache>,
}

impl Model<LanguageModelInfo, Llama> {
    fn check_ids(&self, ids: &[u32]) -> Result<Tensor> {
        let vocab = self.info.vocab_size;
        if let Some(id) = ids.iter().find(|&&id| id >= vocab) {
            let message = format!("expected ids of tokens below {vocab}, found {id}");
            return Err(PluginError::invalid(message).into());
        }
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Ok(Tensor::f_from_slice(&ids)?)
    }

    fn check_room(&self, session: &Session, more: usize) -> Result<(), PluginError> {
        let limit = self.info.context_length as usize;
        match session.length + more <= limit {
            true => Ok(()),
            false => Err(PluginError::invalid(format!(
                "the session has {} positions, and {more} more exceed the context length of {limit}",
                session.length
            ))),
        }
    }

    fn prefilled(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        at: LogitsAt,
    ) -> Result<Tensor> {
        let length = embeds.shape().first().copied().unwrap_or_default();
        let embeds = copied_as("embeddings", embeds, &[length, self.info.width as usize])?;
        let rows = at.rows(length)?;
        self.check_room(session, length)?;
        if length == 0 {
            return Ok(Tensor::f_zeros(
                [0, i64::from(self.info.vocab_size)],
                (Kind::Float, Device::Cpu),
            )?);
        }
        let inner = self.lock();
        no_grad(|| {
            let network = &inner.0;
            let (hidden, caches) = network.append(&embeds, &session.caches, session.length)?;
            let last = hidden
                .f_squeeze_dim(0)?
                .f_narrow(0, size(length - rows), size(rows))?;
            let logits = network.head.forward(&last)?;
            *session = Session {
                length: session.length + length,
                caches,
            };
            Ok(logits)
        })
    }

    fn decoded(&self, sessions: &mut [&mut Session], tokens: &[u32]) -> Result<Tensor> {
        let ids = self.check_ids(tokens)?;
        sessions
            .iter()
            .try_for_each(|session| self.check_room(session, 1))?;
        let inner = self.lock();
        no_grad(|| {
            let network = &inner.0;
            let embeds = network.embeddings.f_index_select(0, &ids)?;
            let (mut rows, mut next) = (Vec::new(), Vec::new());
            for (index, session) in sessions.iter().enumerate() {
                let embed = embeds.f_narrow(0, size(index), 1)?;
                let (hidden, caches) = network.append(&embed, &session.caches, session.length)?;
                rows.push(hidden.f_squeeze_dim(0)?);
                next.push(caches);
            }
            let logits = network.head.forward(&Tensor::f_cat(&rows, 0)?)?;
            for (session, caches) in sessions.iter_mut().zip(next) {
                session.length += 1;
                session.caches = caches;
            }
            Ok(logits)
        })
    }
}

impl LanguageModel for Model<LanguageModelInfo, Llama> {
    type Session = Session;

    fn info(&self) -> LanguageModelInfo {
        self.info.clone()
    }

    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        let ids = self.check_ids(ids)?;
        let inner = self.lock();
        let rows = no_grad(|| inner.0.embeddings.f_index_select(0, &ids));
        Ok(given(&rows.map_err(crate::failure::Failure::from)?)?)
    }

    fn open(&self) -> Result<Session, PluginError> {
        Ok(Session {
            length: 0,
            caches: Vec::new(),
        })
    }

    fn prefill(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        Ok(given(&self.prefilled(session, embeds, logits)?)?)
    }

    fn decode(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError> {
        Ok(given(&self.decoded(sessions, tokens)?)?)
    }

    fn fork(&self, session: &Session) -> Result<Session, PluginError> {
        let caches = session.caches.iter();
        Ok(Session {
            length: session.length,
            caches: caches
                .map(|(k, v)| (k.shallow_clone(), v.shallow_clone()))
                .collect(),
        })
    }

    fn truncate(&self, session: &mut Session, length: usize) -> Result<(), PluginError> {
        if length > session.length {
            let known = session.length;
            let message = format!("the session has {known} positions, fewer than {length}");
            return Err(PluginError::invalid(message));
        }
        let shorter = |tensor: &Tensor| tensor.f_narrow(2, 0, size(length));
        let caches = session
            .caches
            .iter()
            .map(|(k, v)| Ok((shorter(k)?, shorter(v)?)));
        let caches = caches.collect::<Result<_>>()?;
        *session = Session { length, caches };
        Ok(())
    }
}

/// Texts as tensors of libtorch.
struct Texts {
    /// `[batch, length, width]`
    embeds: Tensor,
    /// `[batch, 1, length, length]`: which positions each position may read.
    mask: Tensor,
    /// `[batch, length - 1]`: the token that follows each position, or [`IGNORED_LABEL`].
    next: Tensor,
    /// The number of labels that count.
    count: u64,
}

impl Model<LanguageModelInfo, Llama> {
    fn texts(&self, texts: &TrainingTexts<'_>) -> Result<Texts> {
        let [batch, length, _] = texts.embeds.dims::<3>()?;
        let shape = [batch, length, self.info.width as usize];
        let embeds = copied_as("embeddings", &texts.embeds, &shape)?;
        for (what, view) in [("a mask", &texts.mask), ("labels", &texts.labels)] {
            if view.shape() != [batch, length] {
                let found = view.shape();
                let message =
                    format!("expected {what} of shape [{batch}, {length}], found {found:?}");
                return Err(PluginError::invalid(message).into());
            }
        }
        let (kept, labels) = (
            texts.mask.elements::<u8>()?,
            texts.labels.elements::<i64>()?,
        );
        let vocab = i64::from(self.info.vocab_size);
        let is_label = |&label: &i64| label == IGNORED_LABEL || (0..vocab).contains(&label);
        if let Some(label) = labels.iter().find(|&label| !is_label(label)) {
            let message = format!("expected ids of tokens below {vocab}, found {label}");
            return Err(PluginError::invalid(message).into());
        }
        let mut next = Vec::with_capacity(labels.len());
        if length > 1 {
            for (kept, labels) in kept.chunks(length).zip(labels.chunks(length)) {
                let pairs = kept.windows(2).zip(&labels[1..]);
                next.extend(pairs.map(|(kept, &label)| match kept.contains(&0) {
                    true => IGNORED_LABEL,
                    false => label,
                }));
            }
        }
        let count = next.iter().filter(|&&label| label != IGNORED_LABEL).count() as u64;
        let (rows, columns) = (size(batch), size(length));
        let kept = Tensor::f_from_slice(kept)?.f_to_kind(Kind::Bool)?;
        let kept = kept.f_view([rows, 1, 1, columns])?;
        // A padded position reads itself, because the softmax of nothing is not a number.
        let itself = Tensor::f_eye(columns, (Kind::Bool, Device::Cpu))?;
        let mask = kept
            .f_logical_or(&itself)?
            .f_logical_and(&causal(columns, 0)?)?;
        Ok(Texts {
            embeds,
            mask,
            next: Tensor::f_from_slice(&next)?.f_view([rows, (columns - 1).max(0)])?,
            count,
        })
    }

    fn loss(&self, network: &Llama, texts: &Texts) -> Result<Tensor> {
        let (hidden, _) = network.forward(&texts.embeds, &texts.mask, &[], 0)?;
        let positions = texts.next.size2()?.1;
        let logits = network.head.forward(&hidden.f_narrow(1, 0, positions)?)?;
        let logits = logits.f_view([-1, i64::from(self.info.vocab_size)])?;
        let next = texts.next.f_view([-1])?;
        let sum = Reduction::Sum;
        Ok(logits.f_cross_entropy_loss::<Tensor>(&next, None, sum, IGNORED_LABEL, 0.0)?)
    }

    fn learned(
        &self,
        texts: &Texts,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient> {
        let inner = self.lock();
        let (network, learned) = &*inner;
        learned.is_trained()?;
        match what {
            Backward::LOSS_ONLY => {
                let loss = no_grad(|| self.loss(network, texts))?;
                let none = TensorBuf::from_vec(Vec::<f32>::new(), &[0])?;
                Ok(LossAndGradient::new(
                    loss.f_double_value(&[])?,
                    texts.count,
                    none,
                ))
            }
            Backward::GRADIENTS => {
                let embeds = texts.embeds.f_set_requires_grad(true)?;
                let loss = self.loss(network, texts)?;
                let gradient = learned.backward(&loss, Some(&embeds))?;
                ready(&places(learned)?)?;
                let gradient = gradient
                    .filter(Tensor::defined)
                    .map_or_else(|| embeds.f_zeros_like(), Ok)?;
                let sum = loss.f_double_value(&[])?;
                Ok(LossAndGradient::new(sum, texts.count, given(&gradient)?))
            }
            other => Err(PluginError::unsupported(other).into()),
        }
    }
}

impl TrainableLanguageModel for Model<LanguageModelInfo, Llama> {
    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError> {
        Ok(self.learned(&self.texts(texts)?, what, ready)?)
    }

    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError> {
        let gradient = copied_as(
            "a gradient",
            gradient,
            &[ids.len(), self.info.width as usize],
        )?;
        let ids = self.check_ids(ids)?;
        Ok(self.lock().1.add_rows(EMBEDDINGS, &ids, &gradient)?)
    }
}
