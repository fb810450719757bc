//! Where the queries, keys and values of an attention are.

use crate::kernels::disjoint::Operand;

/// The most queries whose scores are kept at the same time.
const QUERY_BLOCK: usize = 96;

/// Queries, keys or values: a slice, and how far apart things are in it, in elements.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// The elements, from the first head of the first position on.
    pub data: &'a [f32],
    /// From one position to the next.
    pub position: usize,
    /// From one head to the next.
    pub head: usize,
    /// From one sequence to the next: sequence `i` begins at `i / inner · outer_stride + i % inner ·
    /// inner_stride`.
    pub batch: BatchStride,
}

/// Where sequences begin; two levels, because a video's sequences over time are interleaved with those
/// over space.
#[derive(Clone, Copy)]
pub struct BatchStride {
    /// Sequences per outer step. At least 1.
    pub inner: usize,
    /// Elements between sequences of one outer step.
    pub inner_stride: usize,
    /// Elements between outer steps.
    pub outer_stride: usize,
}

impl BatchStride {
    /// Sequences that follow each other at `stride`.
    pub fn plain(stride: usize) -> Self {
        Self {
            inner: 1,
            inner_stride: 0,
            outer_stride: stride,
        }
    }

    /// Where a sequence begins.
    pub fn offset(&self, sequence: usize) -> usize {
        sequence / self.inner * self.outer_stride + sequence % self.inner * self.inner_stride
    }
}

/// The sizes of an attention.
#[derive(Clone, Copy)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` consecutive query heads (arXiv 2305.13245).
    pub kv_heads: usize,
    /// Query positions.
    pub queries: usize,
    /// Key and value positions.
    pub keys: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether query `i` sees only keys up to `keys - queries + i`.
    pub causal: bool,
}

/// One sequence of an attention: how many positions, and the element where they begin.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Query positions.
    pub queries: usize,
    /// Key and value positions.
    pub keys: usize,
    /// Where its queries begin.
    pub q: usize,
    /// Where its keys begin.
    pub k: usize,
    /// Where its values begin.
    pub v: usize,
}

/// What sequences of different lengths have in common.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// See [`AttentionShape::causal`].
    pub causal: bool,
}

impl Heads {
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Keys that the `count` queries from `first` on see, the last of them at least.
    pub(super) fn visible(&self, span: &Span, first: usize, count: usize) -> usize {
        if self.causal {
            (span.keys + first + count).saturating_sub(span.queries)
        } else {
            span.keys
        }
    }
}

impl AttentionShape {
    pub(super) fn heads(&self) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            causal: self.causal,
        }
    }

    /// Its sequences, one after the other.
    pub fn spans(&self, q: &BatchStride, k: &BatchStride, v: &BatchStride) -> Vec<Span> {
        let span = |sequence| Span {
            queries: self.queries,
            keys: self.keys,
            q: q.offset(sequence),
            k: k.offset(sequence),
            v: v.offset(sequence),
        };
        (0..self.batch).map(span).collect()
    }
}

/// The rows of a head's positions from `first` on.
pub(super) fn rows_of<'a>(m: &Strided<'a>, start: usize, head: usize, first: usize) -> Operand<'a> {
    Operand {
        data: &m.data[start + head * m.head + first * m.position..],
        row: m.position,
        column: 1,
    }
}

/// The same elements, with rows and columns exchanged.
pub(super) fn transposed(m: Operand<'_>) -> Operand<'_> {
    Operand {
        row: m.column,
        column: m.row,
        ..m
    }
}

/// Queries that are computed together: blocks of equal size, for a short last one would be a product of a
/// few rows.
pub(super) fn block_of(queries: usize) -> usize {
    queries
        .div_ceil(queries.div_ceil(QUERY_BLOCK).max(1))
        .max(1)
}
