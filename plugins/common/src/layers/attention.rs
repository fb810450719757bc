//! Multi-head self-attention (arXiv 1706.03762).

use crate::{
    Result,
    config::{MAX_SIZE, heads_divide, within},
    gradients::{Parameter, note},
    kernels::attention::{
        AttentionGradients, BatchStride, Heads, Span, Strided, attention_backward,
        attention_backward_fused, attention_of,
    },
    layers::linear::Linear,
    tensor::{from_vec, rows, with_slice},
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// The rows of a tensor `[rows, width]` that form the sequences of a self-attention.
#[derive(Debug, Clone, Copy)]
pub struct Sequences {
    /// The number of sequences.
    pub batch: usize,
    /// The number of positions in each sequence.
    pub length: usize,
    /// The number of rows from one position to the next.
    pub position: usize,
    /// The number of sequences in each outer step; see [`BatchStride`].
    pub inner: usize,
    /// The number of rows from one sequence of an outer step to the next.
    pub inner_stride: usize,
    /// The number of rows from one outer step to the next.
    pub outer_stride: usize,
}

impl Sequences {
    /// Returns `batch` sequences of `length` consecutive rows.
    pub fn consecutive(batch: usize, length: usize) -> Self {
        Self {
            batch,
            length,
            position: 1,
            inner: 1,
            inner_stride: 0,
            outer_stride: length,
        }
    }

    /// Returns the sequences over time in rows ordered `[groups, time, space]`: one for each group and place.
    pub fn over_time(groups: usize, time: usize, space: usize) -> Self {
        Self {
            batch: groups * space,
            length: time,
            position: space,
            inner: space,
            inner_stride: 1,
            outer_stride: time * space,
        }
    }

    /// Returns the sequences in rows of `row` elements.
    fn spans(&self, row: usize) -> Vec<Span> {
        let batch = BatchStride {
            inner: self.inner,
            inner_stride: self.inner_stride * row,
            outer_stride: self.outer_stride * row,
        };
        let span = |start| Span {
            queries: self.length,
            keys: self.length,
            q: start,
            k: start,
            v: start,
        };
        (0..self.batch)
            .map(|sequence| span(batch.offset(sequence)))
            .collect()
    }

    /// Returns `data` with rows of `row` elements as heads.
    fn view<'a>(&self, head_dim: usize, data: &'a [f32], row: usize) -> Strided<'a> {
        Strided {
            data,
            position: self.position * row,
            head: head_dim,
            batch: BatchStride::plain(0),
        }
    }
}

enum Projections {
    /// One layer whose outputs are queries, keys and values (timm's `attn.qkv`).
    Fused(Box<Linear>),
    /// One layer each (Hugging Face).
    Separate(Box<[Linear; 3]>),
}

/// Self-attention. The output projection is a separate step, so that callers can reorder rows before it.
pub struct SelfAttention {
    projections: Projections,
    output: Linear,
    heads: usize,
    width: usize,
}

impl SelfAttention {
    /// Creates timm's `Attention` from one layer for queries, keys and values (`qkv`) and one for the output
    /// (`proj`).
    ///
    /// # Errors
    ///
    /// When `heads` does not divide `width`.
    pub fn fused(qkv: Linear, output: Linear, heads: usize, width: usize) -> Result<Self> {
        Self::from_parts(Projections::Fused(Box::new(qkv)), output, heads, width)
    }

    /// Creates an attention from separate layers for queries, keys and values, and one for the output.
    ///
    /// # Errors
    ///
    /// When `heads` does not divide `width`.
    pub fn separate(qkv: [Linear; 3], output: Linear, heads: usize, width: usize) -> Result<Self> {
        Self::from_parts(Projections::Separate(Box::new(qkv)), output, heads, width)
    }

    fn from_parts(
        projections: Projections,
        output: Linear,
        heads: usize,
        width: usize,
    ) -> Result<Self> {
        within(MAX_SIZE, &[("heads", heads)])?;
        heads_divide(heads, width)?;
        Ok(Self {
            projections,
            output,
            heads,
            width,
        })
    }

    /// Computes the attention of each sequence to itself, before the output projection.
    ///
    /// # Shapes
    ///
    /// `[rows, width]` → `[batch · length, width]`, in the order of `sequences`
    ///
    /// # Errors
    ///
    /// When `x` does not have the number of rows of `sequences`, or has another width.
    pub fn attend(&self, x: &Tensor, sequences: Sequences) -> Result<Tensor> {
        let (count, width) = rows(x)?;
        if count != sequences.batch * sequences.length || width != self.width {
            return Err(PluginError::invalid(format!(
                "an attention of width {} over {} sequences of {} positions received a tensor of shape {:?}",
                self.width,
                sequences.batch,
                sequences.length,
                x.dims()
            )));
        }
        match &self.projections {
            Projections::Fused(qkv) => self.attend_fused(&qkv.forward(x)?, sequences),
            Projections::Separate(qkv) => {
                let [q, k, v] = &**qkv;
                self.attend_separate([q.forward(x)?, k.forward(x)?, v.forward(x)?], sequences)
            }
        }
    }

    fn heads(&self) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: self.width / self.heads,
            causal: false,
        }
    }

    /// `[rows, queries | keys | values]` → `[rows, width]`
    fn attend_fused(&self, qkv: &Tensor, sequences: Sequences) -> Result<Tensor> {
        let (heads, width, row) = (self.heads(), self.width, 3 * self.width);
        let spans = sequences.spans(row);
        let output = with_slice(qkv, |data| {
            let part =
                |start: usize| sequences.view(heads.head_dim, &data[start.min(data.len())..], row);
            Ok(attention_of(
                part(0),
                part(width),
                part(2 * width),
                &spans,
                heads,
            ))
        })?;
        let y = from_vec(output, (sequences.batch * sequences.length, width))?;
        let input = qkv.clone();
        note("an attention", &[qkv], &y, false, move |gradient, flow| {
            with_slice(&input, |data| {
                let mut out = vec![0.0; data.len()];
                let view = sequences.view(heads.head_dim, data, row);
                let starts = [width, 2 * width];
                attention_backward_fused(view, starts, &spans, heads, &gradient, &mut out);
                flow.add(input.id(), out);
                Ok(())
            })
        });
        Ok(y)
    }

    /// Queries, keys and values, each `[rows, width]` → `[rows, width]`
    fn attend_separate(&self, qkv: [Tensor; 3], sequences: Sequences) -> Result<Tensor> {
        let (heads, width) = (self.heads(), self.width);
        let spans = sequences.spans(width);
        let output = with_all(&qkv, |data| {
            let [q, k, v] = data.map(|data| sequences.view(heads.head_dim, data, width));
            Ok(attention_of(q, k, v, &spans, heads))
        })?;
        let y = from_vec(output, (sequences.batch * sequences.length, width))?;
        let inputs = qkv.clone();
        note(
            "an attention",
            &qkv.each_ref(),
            &y,
            false,
            move |gradient, flow| {
                let mut gradients = [0, 1, 2].map(|_| vec![0.0; inputs[0].elem_count()]);
                with_all(&inputs, |data| {
                    let [q, k, v] = data.map(|data| sequences.view(heads.head_dim, data, width));
                    let [dq, dk, dv] = &mut gradients;
                    let out = AttentionGradients {
                        q: dq,
                        k: dk,
                        v: dv,
                    };
                    attention_backward(q, k, v, &spans, heads, &gradient, out);
                    Ok(())
                })?;
                for (input, gradient) in inputs.iter().zip(gradients) {
                    flow.add(input.id(), gradient);
                }
                Ok(())
            },
        );
        Ok(y)
    }

    /// Returns `residual + scale·output(attended)`.
    ///
    /// # Shapes
    ///
    /// `[rows, width]` → the same shape
    ///
    /// # Errors
    ///
    /// When a shape does not fit.
    pub fn project_added(
        &self,
        attended: &Tensor,
        residual: &Tensor,
        scale: Option<&Parameter>,
    ) -> Result<Tensor> {
        self.output.forward_added(attended, residual, scale)
    }
}

/// Calls `body` with the elements of three tensors.
fn with_all<R>(tensors: &[Tensor; 3], body: impl FnOnce([&[f32]; 3]) -> Result<R>) -> Result<R> {
    let [q, k, v] = tensors;
    with_slice(q, |q| with_slice(k, |k| with_slice(v, |v| body([q, k, v]))))
}
