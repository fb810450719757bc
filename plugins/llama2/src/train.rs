//! Training: the loss of a batch of texts and its backward pass.

use crate::{
    model::Llama,
    rope::{Angle, Rope},
};
use candle_core::Tensor;
use merv_plugin_api::{
    Backward, Call, LossAndGradient, PluginError, ReadyGradients, TensorBuf, TensorView,
    TrainableLanguageModel, TrainingTexts,
};
use merv_plugin_sdk::{
    Result,
    architectures::{
        llama::{check_embeds_gradient, check_texts, predicted},
        training::tell,
    },
    gradients::{checkpoint, choose_rows, milestone, note, record},
    kernels::attention::{
        AttentionGradients, BatchStride, Heads, Span, Strided, attention_backward, attention_of,
    },
    layers::loss::cross_entropy,
    tensor::{from_vec, with_slice},
    threads::on_pool,
};
use rayon::prelude::*;
use std::{ops::Range, sync::Arc};

/// A batch without its padding: the tokens of all texts in rows, one text after the other. Tokens after the
/// last one that predicts a label are omitted, because no label depends on them.
struct Packed {
    /// The row of `[batch, length]` that each row comes from.
    origins: Vec<usize>,
    /// The position of each row in its text.
    positions: Vec<usize>,
    /// The number of rows of each text.
    lengths: Vec<usize>,
    /// The rows that predict a label.
    predicting: Vec<usize>,
    /// The predicted labels.
    labels: Vec<u32>,
}

impl Packed {
    fn new(mask: &[u8], labels: &[i64], length: usize) -> Result<Self> {
        let mut packed = Self {
            origins: Vec::new(),
            positions: Vec::new(),
            lengths: Vec::new(),
            predicting: Vec::new(),
            labels: Vec::new(),
        };
        let texts = mask.chunks_exact(length).zip(labels.chunks_exact(length));
        for (text, (mask, labels)) in texts.enumerate() {
            let mut next = Vec::with_capacity(length);
            for position in 0..length {
                next.push(predicted(mask, labels, position)?);
            }
            let Some(end) = next.iter().rposition(Option::is_some) else {
                continue;
            };
            let start = packed.origins.len();
            for position in (0..=end).filter(|&position| mask[position] != 0) {
                if let Some(label) = next[position] {
                    packed.predicting.push(packed.origins.len());
                    packed.labels.push(label);
                }
                packed.origins.push(text * length + position);
                packed.positions.push(position);
            }
            packed.lengths.push(packed.origins.len() - start);
        }
        Ok(packed)
    }

    /// `[batch, length, width]` → `[rows, width]`
    fn gather(&self, all: &[f32], width: usize) -> Vec<f32> {
        let rows = self.origins.iter().map(|row| &all[row * width..][..width]);
        rows.flatten().copied().collect()
    }

    /// `[rows, width]` → `[batch, length, width]` of `count` rows; omitted rows are zeros.
    fn scatter(&self, rows: &[f32], width: usize, count: usize) -> Vec<f32> {
        let mut all = vec![0.0; count * width];
        for (origin, row) in self.origins.iter().zip(rows.chunks_exact(width)) {
            all[origin * width..][..width].copy_from_slice(row);
        }
        all
    }
}

/// Causal self-attention of packed texts, with the rotary embedding.
struct SelfAttention {
    rope: Arc<Rope>,
    /// The angles of each position.
    angles: Vec<Vec<Angle>>,
    positions: Vec<usize>,
    spans: Vec<Span>,
    heads: Heads,
}

impl SelfAttention {
    fn new(model: &Llama, packed: &Packed) -> Self {
        let config = &model.config;
        let last = packed.positions.iter().max().map_or(0, |last| last + 1);
        let mut first = 0;
        let spans = packed.lengths.iter().map(|&length| {
            let row = first;
            first += length;
            Span {
                queries: length,
                keys: length,
                q: row * model.query_row(),
                k: row * model.cache_row(),
                v: row * model.cache_row(),
            }
        });
        Self {
            angles: (0..last).map(|at| model.rope.angles(at)).collect(),
            spans: spans.collect(),
            rope: Arc::clone(&model.rope),
            positions: packed.positions.clone(),
            heads: Heads {
                heads: config.num_attention_heads,
                kv_heads: config.kv_heads(),
                head_dim: config.head_dim(),
                causal: true,
            },
        }
    }

    /// Rotates every row by the angles of its position, or by their negatives if `inverse`.
    fn rotate(&self, rows: &mut [f32], inverse: bool) {
        let width = rows.len() / self.positions.len().max(1);
        rows.par_chunks_exact_mut(width.max(1))
            .zip(&self.positions)
            .for_each(|(row, &position)| {
                if inverse {
                    let angles = self.angles[position].iter();
                    let angles: Vec<Angle> = angles.map(|(sin, cos)| (-sin, *cos)).collect();
                    self.rope.rotate(row, &angles);
                } else {
                    self.rope.rotate(row, &self.angles[position]);
                }
            });
    }

    /// Returns a view of `data` with `heads` heads.
    fn view<'a>(&self, data: &'a [f32], heads: usize) -> Strided<'a> {
        Strided {
            data,
            position: heads * self.heads.head_dim,
            head: self.heads.head_dim,
            batch: BatchStride::plain(0),
        }
    }

    /// Queries, keys and values `[rows, heads · head_dim]` → `[rows, heads · head_dim]`
    fn forward(self: &Arc<Self>, qkv: [Tensor; 3]) -> Result<Tensor> {
        let Heads {
            heads, kv_heads, ..
        } = self.heads;
        let rotated = |x: &Tensor| {
            with_slice(x, |x| {
                let mut x = x.to_vec();
                self.rotate(&mut x, false);
                Ok(x)
            })
        };
        let (q, k) = (rotated(&qkv[0])?, rotated(&qkv[1])?);
        let output = with_slice(&qkv[2], |v| {
            let (q, k, v) = (
                self.view(&q, heads),
                self.view(&k, kv_heads),
                self.view(v, kv_heads),
            );
            Ok(attention_of(q, k, v, &self.spans, self.heads))
        })?;
        let y = from_vec(output, qkv[0].shape())?;
        let (this, ids, v) = (
            Arc::clone(self),
            qkv.each_ref().map(Tensor::id),
            qkv[2].clone(),
        );
        note(
            "an attention",
            &qkv.each_ref(),
            &y,
            false,
            move |gradient, flow| {
                let mut gradients = [q.len(), k.len(), k.len()].map(|length| vec![0.0; length]);
                let [dq, dk, dv] = &mut gradients;
                with_slice(&v, |v| {
                    let (q, k, v) = (
                        this.view(&q, heads),
                        this.view(&k, kv_heads),
                        this.view(v, kv_heads),
                    );
                    let out = AttentionGradients {
                        q: &mut *dq,
                        k: &mut *dk,
                        v: dv,
                    };
                    attention_backward(q, k, v, &this.spans, this.heads, &gradient, out);
                    Ok(())
                })?;
                this.rotate(dq, true);
                this.rotate(dk, true);
                for (id, gradient) in ids.into_iter().zip(gradients) {
                    flow.add(id, gradient);
                }
                Ok(())
            },
        );
        Ok(y)
    }
}

/// Notes that the next layer is the only one with the parameters in `places`.
fn note_places(trained: bool, places: &Range<u32>) {
    if trained {
        milestone(places.clone());
    }
}

/// Tells the host which gradients are ready.
fn tell_range(ready: &mut ReadyGradients<'_>, places: &Range<u32>) -> Result<()> {
    tell(ready, &places.clone().collect::<Vec<_>>())
}

impl Llama {
    /// Tells the host that all gradients but that of the embedding table are ready.
    fn all_ready(&self, ready: &mut ReadyGradients<'_>) -> Result<()> {
        let mut places = std::iter::once(&self.places.head).chain(&self.places.others);
        places.try_for_each(|places| tell_range(ready, places))
    }

    /// `[rows, width]` → `[predicting rows, width]`, after the final norm
    fn forward_packed(&self, x: &Tensor, packed: &Packed, checkpointed: bool) -> Result<Tensor> {
        let attention = Arc::new(SelfAttention::new(self, packed));
        let mut x = x.clone();
        for (layer, places) in self.layers.iter().zip(&self.places.others) {
            Call::current().check()?;
            note_places(layer.is_trained(), places);
            let (layer, attention) = (Arc::clone(layer), Arc::clone(&attention));
            let trained = layer.is_trained();
            let forward = move |x: &Tensor| layer.forward(x, |qkv| attention.forward(qkv));
            x = if checkpointed {
                checkpoint(&x, trained, forward)?
            } else {
                forward(&x)?
            };
        }
        if let Some(places) = self.places.others.last() {
            note_places(self.embedding.is_trained(), places);
        }
        self.norm
            .forward(&choose_rows(&x, packed.predicting.iter().copied())?)
    }
}

impl TrainableLanguageModel for Llama {
    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient> {
        let options = self.parameters.options()?;
        let [batch, length] = check_texts(texts, &self.config)?;
        let (embeds, width) = (&texts.embeds, self.config.hidden_size);
        let with_gradients = match what {
            Backward::LOSS_ONLY => false,
            Backward::GRADIENTS => true,
            other => return Err(PluginError::unsupported(format!("unknown {other}"))),
        };
        let packed = Packed::new(texts.mask.elements()?, texts.labels.elements()?, length)?;
        let tokens = packed.labels.len() as u64;
        let empty = || TensorBuf::from_vec(Vec::<f32>::new(), &[0]);
        if tokens == 0 {
            let zeros = vec![0.0f32; batch * length * width];
            let gradient = if with_gradients {
                TensorBuf::from_vec(zeros, embeds.shape())?
            } else {
                empty()?
            };
            if with_gradients && options.trainable {
                self.all_ready(ready)?;
            }
            return Ok(LossAndGradient::new(0.0, tokens, gradient));
        }
        let rows = packed.gather(embeds.f32s()?, width);
        let x = from_vec(rows, (packed.origins.len(), width))?;
        if !with_gradients {
            let (loss_sum, _) = on_pool(|| {
                let hidden = self.forward_packed(&x, &packed, false)?;
                with_slice(&hidden, |h| {
                    cross_entropy(h, &self.head, &packed.labels, false)
                })
            })?;
            return Ok(LossAndGradient::new(loss_sum, tokens, empty()?));
        }
        let (loss_sum, gradient) = on_pool(|| {
            let (hidden, tape) = record(&[&x], || {
                self.forward_packed(&x, &packed, options.checkpoint_activations)
            })?;
            let (loss_sum, gradient) = with_slice(&hidden, |h| {
                cross_entropy(h, &self.head, &packed.labels, true)
            })?;
            if options.trainable {
                tell_range(ready, &self.places.head)?;
            }
            let mut flow = tape.backward_telling(hidden.id(), gradient, ready)?;
            Ok::<_, PluginError>((loss_sum, flow.take(&x).unwrap_or_default()))
        })?;
        let gradient = packed.scatter(&gradient, width, batch * length);
        let gradient = TensorBuf::from_vec(gradient, embeds.shape())?;
        Ok(LossAndGradient::new(loss_sum, tokens, gradient))
    }

    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<()> {
        self.parameters.options()?;
        let width = self.config.hidden_size;
        check_embeds_gradient(gradient, ids.len(), &self.config)?;
        let rows = gradient.f32s()?;
        let ids: Vec<usize> = ids
            .iter()
            .map(|&id| self.row_of(id))
            .collect::<Result<_>>()?;
        self.embedding.add_to_gradient(|sums| {
            for (id, row) in ids.iter().zip(rows.chunks_exact(width)) {
                let sums = &mut sums[id * width..][..width];
                sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
        });
        Ok(())
    }
}
