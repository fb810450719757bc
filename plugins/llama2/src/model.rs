//! Llama (arXiv 2302.13971, 2307.09288) and Qwen2 (arXiv 2407.10671), which adds biases. Agrees with
//! `LlamaForCausalLM` of `transformers/models/llama/modeling_llama.py` and `Qwen2ForCausalLM` of
//! `transformers/models/qwen2/modeling_qwen2.py`.

use crate::{
    cache::{LayerCache, Session},
    rope::Rope,
};
use candle_core::Tensor;
use merv_plugin_api::{Call, LanguageModel, LanguageModelInfo, LogitsAt, TensorBuf, TensorView};
use merv_plugin_sdk::{
    Result,
    activation::Activation,
    architectures::llama::{
        Config, ROPE_FACTORS, check_embeds, check_id, check_room, check_truncation,
    },
    gradients::{Parameter, Parameters, gated},
    kernels::{
        attention::{AttentionShape, BatchStride, Strided, attention},
        linear::FEW_ROWS,
    },
    layers::{linear::Linear, norm::RmsNorm},
    tensor::{export, from_vec, import, with_slice},
    threads::on_pool,
    trainable,
    weights::Scope,
};
use std::{ops::Range, sync::Arc};

/// One layer.
pub struct Layer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Layer {
    fn new(config: &Config, scope: &Scope<'_>) -> Self {
        let (d, h) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.kv_heads() * config.head_dim();
        let attention = scope.pp("self_attn");
        let project =
            |inputs, outputs, bias, name| Linear::new(inputs, outputs, bias, &attention.pp(name));
        let (qkv_bias, output_bias) = (config.qkv_bias(), config.attention_bias);
        let mlp = |inputs, outputs, name| {
            Linear::new(inputs, outputs, config.mlp_bias, &scope.pp("mlp").pp(name))
        };
        let norm = |name| RmsNorm::new(d, config.rms_norm_eps, &scope.pp(name));
        Self {
            attention_norm: norm("input_layernorm"),
            query: project(d, queries, qkv_bias, "q_proj"),
            key: project(d, keys, qkv_bias, "k_proj"),
            value: project(d, keys, qkv_bias, "v_proj"),
            output: project(queries, d, output_bias, "o_proj"),
            mlp_norm: norm("post_attention_layernorm"),
            gate: mlp(d, h, "gate_proj"),
            up: mlp(d, h, "up_proj"),
            down: mlp(h, d, "down_proj"),
            activation: config.hidden_act,
        }
    }

    /// `[rows, width]` → `[rows, width]`. `attend` computes the attention from queries, keys and values
    /// `[rows, heads · head_dim]`.
    pub fn forward(
        &self,
        x: &Tensor,
        attend: impl FnOnce([Tensor; 3]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x)?;
        let attended = attend([
            self.query.forward(&normed)?,
            self.key.forward(&normed)?,
            self.value.forward(&normed)?,
        ])?;
        let x = self.output.forward_added(&attended, x, None)?;
        let normed = self.mlp_norm.forward(&x)?;
        let (gate, up) = (self.gate.forward(&normed)?, self.up.forward(&normed)?);
        let hidden = gated(&gate, &up, self.activation)?;
        self.down.forward_added(&hidden, &x, None)
    }

    /// Returns whether the layer is trained.
    pub fn is_trained(&self) -> bool {
        self.query.is_trained()
    }
}

/// Returns the divisors of the rotary frequencies, if the file has them.
fn rope_factors(config: &Config, scope: &Scope<'_>) -> Vec<f32> {
    if scope.contains(ROPE_FACTORS) {
        scope.vector(ROPE_FACTORS, &[config.head_dim() / 2])
    } else {
        Vec::new()
    }
}

/// The places of the parameters in [`Llama::parameters`]. The embedding table is the first.
pub struct Places {
    /// Those of the head. Empty if it shares the embedding table.
    pub head: Range<u32>,
    /// Those of each layer, and then of the final norm.
    pub others: Vec<Range<u32>>,
}

/// The loaded model.
pub struct Llama {
    /// `[vocab_size, width]`
    pub embedding: Parameter,
    /// The layers, in order.
    pub layers: Vec<Arc<Layer>>,
    /// The final norm.
    pub norm: RmsNorm,
    /// The projection to the logits.
    pub head: Linear,
    /// The rotary embedding.
    pub rope: Arc<Rope>,
    /// The sizes.
    pub config: Config,
    info: LanguageModelInfo,
    /// The places of its parameters.
    pub places: Places,
    /// The trainable parameters.
    pub parameters: Parameters,
}

trainable!(Llama, parameters);

impl Llama {
    /// Loads the model from `scope`. The size of the vocabulary is that of the embedding table.
    ///
    /// # Errors
    ///
    /// When the sizes are invalid.
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
        let embedding = embedding.parameter("weight", &[vocab, d]);
        let first_of_head = scope.taken();
        let head = if config.tie_word_embeddings {
            Linear::from_parts(embedding.clone(), None)
        } else {
            Linear::new(d, vocab, false, &scope.pp("lm_head"))
        };
        let mut ends = vec![scope.taken()];
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let layer = Layer::new(&config, &model.pp("layers").pp(index));
                ends.push(scope.taken());
                Arc::new(layer)
            })
            .collect();
        let norm = RmsNorm::new(d, config.rms_norm_eps, &model.pp("norm"));
        ends.push(scope.taken());
        Ok(Self {
            embedding,
            layers,
            norm,
            head,
            places: Places {
                head: first_of_head..ends[0],
                others: ends.windows(2).map(|pair| pair[0]..pair[1]).collect(),
            },
            rope: Arc::new(Rope::new(&config)?.divide_by(&rope_factors(&config, scope))),
            info: config.info().dtype(scope.precision().dtype()),
            config,
            parameters: scope.parameters(),
        })
    }

    /// Returns the number of elements of the queries of one position.
    pub fn query_row(&self) -> usize {
        self.config.num_attention_heads * self.config.head_dim()
    }

    /// Returns the number of elements of the keys, or of the values, of one position and layer.
    pub fn cache_row(&self) -> usize {
        self.config.kv_heads() * self.config.head_dim()
    }

    /// Runs `new` positions of each session through all layers. The sessions grow by them, or do not change
    /// if there is an error.
    ///
    /// `[sessions · new, width]` → `[sessions · new, width]`, before the final norm
    fn forward(&self, x: Tensor, sessions: &mut [&mut Session], new: usize) -> Result<Tensor> {
        for session in sessions.iter() {
            check_room(session.length, new, &self.config)?;
        }
        let result = self
            .layers
            .iter()
            .enumerate()
            .try_fold(x, |x, (index, layer)| {
                Call::current().check()?;
                layer.forward(&x, |qkv| self.attend_cached(index, qkv, sessions, new))
            });
        for session in sessions.iter_mut() {
            let length = session.length + if result.is_ok() { new } else { 0 };
            session.truncate(length, self.cache_row());
        }
        result
    }

    /// Appends keys and values to the caches of the sessions, and attends to all cached positions.
    fn attend_cached(
        &self,
        index: usize,
        [queries, keys, values]: [Tensor; 3],
        sessions: &mut [&mut Session],
        new: usize,
    ) -> Result<Tensor> {
        let mut queries = queries.flatten_all()?.to_vec1::<f32>()?;
        let mut keys = keys.flatten_all()?.to_vec1::<f32>()?;
        let (query_row, row) = (self.query_row(), self.cache_row());
        let mut attended = Vec::with_capacity(queries.len());
        with_slice(&values, |values| {
            for (part, session) in sessions.iter_mut().enumerate() {
                let start = session.length;
                let queries = &mut queries[part * new * query_row..(part + 1) * new * query_row];
                let range = part * new * row..(part + 1) * new * row;
                let keys = &mut keys[range.clone()];
                for position in 0..new {
                    let angles = self.rope.angles(start + position);
                    self.rope
                        .rotate(&mut queries[position * query_row..][..query_row], &angles);
                    self.rope
                        .rotate(&mut keys[position * row..][..row], &angles);
                }
                let cache = &mut session.layers[index];
                cache.keys.extend_from_slice(keys);
                cache.values.extend_from_slice(&values[range]);
                attended.extend(self.attend(queries, cache, new, start + new));
            }
            Ok(())
        })?;
        from_vec(attended, (sessions.len() * new, query_row))
    }

    /// Computes the causal attention of the last `new` positions of a session to all its `length` positions.
    fn attend(&self, queries: &[f32], cache: &LayerCache, new: usize, length: usize) -> Vec<f32> {
        let head_dim = self.config.head_dim();
        let view = |data, heads| Strided {
            data,
            position: heads * head_dim,
            head: head_dim,
            batch: BatchStride::plain(0),
        };
        let shape = AttentionShape {
            batch: 1,
            heads: self.config.num_attention_heads,
            kv_heads: self.config.kv_heads(),
            queries: new,
            keys: length,
            head_dim,
            causal: true,
        };
        attention(
            view(queries, shape.heads),
            view(&cache.keys, shape.kv_heads),
            view(&cache.values, shape.kv_heads),
            shape,
        )
    }

    /// `[rows, width]` → `[rows, vocab_size]`
    fn logits(&self, hidden: &Tensor) -> Result<TensorBuf> {
        export(&self.head.forward(&self.norm.forward(hidden)?)?)
    }

    /// Decodes one token of each session together: `[sessions, vocab_size]`
    fn decode_group(&self, sessions: &mut [&mut Session], tokens: &[u32]) -> Result<TensorBuf> {
        let x = from_vec(
            self.lookup(tokens)?,
            (tokens.len(), self.config.hidden_size),
        )?;
        self.logits(&self.forward(x, sessions, 1)?)
    }

    /// Returns the row of a token in the embedding table.
    pub fn row_of(&self, id: u32) -> Result<usize> {
        check_id(id, &self.config)?;
        Ok(id as usize)
    }

    /// `[ids]` → `[ids, width]`
    fn lookup(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let d = self.config.hidden_size;
        let table = self.embedding.values();
        let table = table.elements();
        let mut rows = Vec::with_capacity(ids.len() * d);
        let mut scratch = Vec::new();
        for &id in ids {
            let id = self.row_of(id)?;
            rows.extend_from_slice(table.slice(id * d..(id + 1) * d).to_f32(&mut scratch));
        }
        Ok(rows)
    }
}

impl LanguageModel for Llama {
    type Session = Session;

    fn info(&self) -> LanguageModelInfo {
        self.info.clone()
    }

    fn embed(&self, ids: &[u32]) -> Result<TensorBuf> {
        TensorBuf::from_vec(self.lookup(ids)?, &[ids.len(), self.config.hidden_size])
    }

    fn open(&self) -> Result<Session> {
        Ok(Session::new(self.layers.len()))
    }

    fn prefill(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf> {
        let length = check_embeds(embeds, &self.config)?;
        let rows = logits.rows(length)?;
        on_pool(|| {
            let hidden = self.forward(import(embeds)?, &mut [session], length)?;
            match rows {
                0 => TensorBuf::from_vec(Vec::<f32>::new(), &[0, self.config.vocab_size]),
                rows => self.logits(&hidden.narrow(0, length - rows, rows)?),
            }
        })
    }

    /// The logits of a session do not depend on the other sessions: they are computed in groups whose
    /// matrix products treat every row in the same way.
    fn decode(&self, sessions: &mut [&mut Session], tokens: &[u32]) -> Result<TensorBuf> {
        let vocab = self.config.vocab_size;
        let mut logits = Vec::with_capacity(tokens.len() * vocab);
        let mut done = 0;
        while done < tokens.len() {
            let group = done..tokens.len().min(done + FEW_ROWS);
            let (few, new) = (&mut sessions[group.clone()], &tokens[group.clone()]);
            match on_pool(|| self.decode_group(few, new)) {
                Ok(rows) => logits.extend_from_slice(rows.view().f32s()?),
                Err(error) => {
                    for session in &mut sessions[..done] {
                        session.truncate(session.length - 1, self.cache_row());
                    }
                    return Err(error);
                }
            }
            done = group.end;
        }
        TensorBuf::from_vec(logits, &[tokens.len(), vocab])
    }

    fn fork(&self, session: &Session) -> Result<Session> {
        Ok(session.clone())
    }

    fn truncate(&self, session: &mut Session, length: usize) -> Result<()> {
        check_truncation(session.length, length)?;
        session.truncate(length, self.cache_row());
        Ok(())
    }
}
