//! Where the queries, keys and values of an attention are.

use crate::kernels::disjoint::Operand;

/// The most queries whose scores are kept at the same time.
const QUERY_BLOCK: usize = 96;

/// Queries, keys or values: a slice with its strides, in elements.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// The elements, from the first head of the first position.
    pub data: &'a [f32],
    /// The stride from one position to the next.
    pub position: usize,
    /// The stride from one head to the next.
    pub head: usize,
    /// The strides from one sequence to the next.
    pub batch: BatchStride,
}

/// Where sequences begin: sequence `i` at `i / inner · outer_stride + i % inner · inner_stride`. There are
/// two levels because a video's sequences over time are interleaved with those over space.
#[derive(Clone, Copy)]
pub struct BatchStride {
    /// The number of sequences in each outer step; at least 1.
    pub inner: usize,
    /// The stride between the sequences of an outer step.
    pub inner_stride: usize,
    /// The stride between outer steps.
    pub outer_stride: usize,
}

impl BatchStride {
    /// Sequences that are `stride` elements apart.
    pub fn plain(stride: usize) -> Self {
        Self {
            inner: 1,
            inner_stride: 0,
            outer_stride: stride,
        }
    }

    /// Returns the element where a sequence begins.
    pub fn offset(&self, sequence: usize) -> usize {
        sequence / self.inner * self.outer_stride + sequence % self.inner * self.inner_stride
    }
}

/// The sizes of an attention over sequences of the same length.
#[derive(Clone, Copy)]
pub struct AttentionShape {
    /// The number of independent sequences.
    pub batch: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads. Each one serves `heads / kv_heads` consecutive query heads (arXiv
    /// 2305.13245).
    pub kv_heads: usize,
    /// The number of query positions.
    pub queries: usize,
    /// The number of key and value positions.
    pub keys: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// Whether query `i` attends only to keys up to `keys - queries + i`.
    pub causal: bool,
}

/// One sequence of an attention: its lengths, and the elements where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The number of query positions.
    pub queries: usize,
    /// The number of key and value positions.
    pub keys: usize,
    /// Where its queries begin.
    pub q: usize,
    /// Where its keys begin.
    pub k: usize,
    /// Where its values begin.
    pub v: usize,
}

/// The sizes that sequences of different lengths share.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// See [`AttentionShape::causal`].
    pub causal: bool,
}

impl Heads {
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Returns the number of keys that the last of the `count` queries from `first` attends to.
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

    /// Returns the sequences.
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

/// Returns the rows of a head from position `first`.
pub(super) fn rows_of<'a>(m: &Strided<'a>, start: usize, head: usize, first: usize) -> Operand<'a> {
    Operand {
        data: &m.data[start + head * m.head + first * m.position..],
        row: m.position,
        column: 1,
    }
}

/// Returns the transposed matrix, without moving elements.
pub(super) fn transposed(m: Operand<'_>) -> Operand<'_> {
    Operand {
        row: m.column,
        column: m.row,
        ..m
    }
}

/// Returns the number of queries that are computed together. Blocks have the same size, because a short last
/// block would be a product of a few rows.
pub(super) fn block_of(queries: usize) -> usize {
    queries
        .div_ceil(queries.div_ceil(QUERY_BLOCK).max(1))
        .max(1)
}
