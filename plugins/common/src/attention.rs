//! Multi-head self-attention (arXiv 1706.03762).

use crate::{
    Result,
    config::{MAX_SIZE, heads_divide, within},
    kernels::attention::{AttentionShape, BatchStride, Strided, attention},
    linear::Linear,
    tensor::{from_vec, rows, with_slice},
    weights::Scope,
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// Which rows of a tensor `[rows, width]` make up the sequences that attend to themselves.
#[derive(Debug, Clone, Copy)]
pub struct Sequences {
    /// How many sequences.
    pub batch: usize,
    /// Positions in each.
    pub length: usize,
    /// Rows from one position to the next.
    pub position: usize,
    /// Sequences per outer step; see [`BatchStride`].
    pub inner: usize,
    /// Rows from one sequence of an outer step to the next.
    pub inner_stride: usize,
    /// Rows from one outer step to the next.
    pub outer_stride: usize,
}

impl Sequences {
    /// `batch` sequences of `length` rows, one after the other.
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

    /// Of rows ordered `[groups, time, space]`, the sequences over time: one for each group and place.
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

    /// `data` with rows of `row` elements, cut into heads.
    fn view<'a>(&self, head_dim: usize, data: &'a [f32], row: usize) -> Strided<'a> {
        let batch = BatchStride {
            inner: self.inner,
            inner_stride: self.inner_stride * row,
            outer_stride: self.outer_stride * row,
        };
        Strided {
            data,
            position: self.position * row,
            head: head_dim,
            batch,
        }
    }
}

enum Projections {
    /// One layer for queries, keys and values, side by side (timm's `attn.qkv`).
    Fused(Box<Linear>),
    /// A layer each (Hugging Face).
    Separate(Box<[Linear; 3]>),
}

/// Self-attention up to, but without, the output projection, and that projection apart: between them a
/// caller may reorder rows.
pub struct SelfAttention {
    projections: Projections,
    output: Linear,
    heads: usize,
    width: usize,
}

impl SelfAttention {
    /// timm's `Attention`: takes `qkv` and `proj` from `scope`.
    ///
    /// # Errors
    ///
    /// When `heads` does not divide `width`.
    pub fn fused(width: usize, heads: usize, scope: &Scope<'_>) -> Result<Self> {
        let projections = Projections::Fused(Box::new(Linear::new(
            width,
            3 * width,
            true,
            &scope.pp("qkv"),
        )));
        let output = Linear::new(width, width, true, &scope.pp("proj"));
        Self::from_parts(projections, output, heads, width)
    }

    /// Four layers taken under whatever names the checkpoint uses: query, key, value, output.
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

    /// Attention of each sequence to itself, before the output projection.
    ///
    /// # Shapes
    ///
    /// `[rows, width]` → `[batch · length, width]`, in the order of `sequences`
    ///
    /// # Errors
    ///
    /// When `x` has not the rows that `sequences` speaks of.
    pub fn attend(&self, x: &Tensor, sequences: Sequences) -> Result<Tensor> {
        let (count, width) = rows(x)?;
        if count != sequences.batch * sequences.length || width != self.width {
            return Err(PluginError::invalid(format!(
                "an attention of width {} over {} sequences of {} was given {:?}",
                self.width,
                sequences.batch,
                sequences.length,
                x.dims()
            )));
        }
        let head_dim = self.width / self.heads;
        let shape = AttentionShape {
            batch: sequences.batch,
            heads: self.heads,
            kv_heads: self.heads,
            queries: sequences.length,
            keys: sequences.length,
            head_dim,
            causal: false,
        };
        let output = match &self.projections {
            Projections::Fused(qkv) => with_slice(&qkv.forward(x)?, |data| {
                let row = 3 * self.width;
                Ok(attention(
                    sequences.view(head_dim, data, row),
                    sequences.view(head_dim, &data[self.width.min(data.len())..], row),
                    sequences.view(head_dim, &data[(2 * self.width).min(data.len())..], row),
                    shape,
                ))
            })?,
            Projections::Separate(qkv) => {
                let [q, k, v] = &**qkv;
                let (q, k, v) = (q.forward(x)?, k.forward(x)?, v.forward(x)?);
                let row = self.width;
                with_slice(&q, |q| {
                    with_slice(&k, |k| {
                        with_slice(&v, |v| {
                            Ok(attention(
                                sequences.view(head_dim, q, row),
                                sequences.view(head_dim, k, row),
                                sequences.view(head_dim, v, row),
                                shape,
                            ))
                        })
                    })
                })?
            }
        };
        from_vec(output, (count, self.width))
    }

    /// `residual + scale·output(attended)`.
    ///
    /// # Shapes
    ///
    /// `[rows, width]` → the same
    ///
    /// # Errors
    ///
    /// When a shape does not fit.
    pub fn project_added(
        &self,
        attended: &Tensor,
        residual: &Tensor,
        scale: Option<&[f32]>,
    ) -> Result<Tensor> {
        self.output.forward_added(attended, residual, scale)
    }
}
