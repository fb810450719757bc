//! Scaled dot-product attention (arXiv 1706.03762) without the full score matrix: a block of queries
//! at a time, whose scores stay in the cache. Operands are read with strides where they lie, so that
//! heads and frames need no rearranging.

use super::linear::{Operand, matmul};
use super::softmax::softmax_rows;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Queries whose scores are held at once, at most.
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

    fn offset(&self, sequence: usize) -> usize {
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

/// `softmax(q·kᵀ / √head_dim)·v`, written as `[batch, queries, heads · head_dim]`, the sequences in the
/// order of `batch`.
pub fn attention(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    shape: AttentionShape,
) -> Vec<f32> {
    let AttentionShape {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        head_dim,
        causal,
    } = shape;
    let width = heads * head_dim;
    let mut output = vec![0.0f32; batch * queries * width];
    if output.is_empty() || keys == 0 {
        return output;
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    // Blocks of equal size: a short last one would be a product of a few rows.
    let block = queries.div_ceil(queries.div_ceil(QUERY_BLOCK));
    let group = heads / kv_heads;
    let task = |scores: &mut Vec<f32>, part: Part<'_>| {
        let Part {
            sequence,
            first,
            count,
            ref heads,
            out,
        } = part;
        let visible = if causal {
            (keys + first + count).saturating_sub(queries)
        } else {
            keys
        };
        scores.resize(count * visible, 0.0);
        for head in heads.clone() {
            let kv_head = head / group;
            let at = |m: Strided<'_>, head: usize, position: usize| {
                m.batch.offset(sequence) + head * m.head + position * m.position
            };
            matmul(
                Operand {
                    data: &q.data[at(q, head, first)..],
                    row: q.position,
                    column: 1,
                },
                Operand {
                    data: &k.data[at(k, kv_head, 0)..],
                    row: 1,
                    column: k.position,
                },
                [count, head_dim, visible],
                scores,
                visible,
                scale,
                Parallelism::None,
            );
            softmax_rows(scores, visible, causal);
            matmul(
                Operand {
                    data: scores,
                    row: visible,
                    column: 1,
                },
                Operand {
                    data: &v.data[at(v, kv_head, 0)..],
                    row: v.position,
                    column: 1,
                },
                [count, visible, head_dim],
                &mut out[(head - heads.start) * head_dim..],
                width,
                1.0,
                Parallelism::None,
            );
        }
    };
    let mut parts = Vec::with_capacity(batch * queries.div_ceil(block));
    for (sequence, rows) in output.chunks_exact_mut(queries * width).enumerate() {
        if queries == 1 {
            // Decoding: there is but one row, so the heads are what can be shared out.
            for (head, out) in rows.chunks_exact_mut(head_dim).enumerate() {
                parts.push(Part {
                    sequence,
                    first: 0,
                    count: 1,
                    heads: head..head + 1,
                    out,
                });
            }
        } else {
            for (index, out) in rows.chunks_mut(block * width).enumerate() {
                let (first, count) = (index * block, out.len() / width);
                parts.push(Part {
                    sequence,
                    first,
                    count,
                    heads: 0..heads,
                    out,
                });
            }
        }
    }
    parts
        .into_par_iter()
        .for_each_init(Vec::new, |scores, part| task(scores, part));
    output
}

/// What one task computes: some heads of some queries of one sequence. The parts of an output are
/// disjoint.
struct Part<'a> {
    sequence: usize,
    /// The first query.
    first: usize,
    /// How many queries.
    count: usize,
    heads: Range<usize>,
    /// From the first head of the first query on; rows are `heads · head_dim` of the whole apart.
    out: &'a mut [f32],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect()
    }

    fn naive(q: &[f32], k: &[f32], v: &[f32], s: AttentionShape) -> Vec<f32> {
        let mut out = vec![0.0; s.batch * s.queries * s.heads * s.head_dim];
        let at = |heads: usize, len: usize, b: usize, p: usize, h: usize| {
            ((b * len + p) * heads + h) * s.head_dim
        };
        for b in 0..s.batch {
            for h in 0..s.heads {
                let g = h / (s.heads / s.kv_heads);
                for i in 0..s.queries {
                    let limit = if s.causal {
                        s.keys - s.queries + i + 1
                    } else {
                        s.keys
                    };
                    let dots: Vec<f64> = (0..limit)
                        .map(|j| {
                            let a = &q[at(s.heads, s.queries, b, i, h)..][..s.head_dim];
                            let c = &k[at(s.kv_heads, s.keys, b, j, g)..][..s.head_dim];
                            let dot: f64 = a
                                .iter()
                                .zip(c)
                                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                                .sum();
                            dot / (s.head_dim as f64).sqrt()
                        })
                        .collect();
                    let max = dots.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = dots.iter().map(|d| (d - max).exp()).sum();
                    for d in 0..s.head_dim {
                        let value: f64 = dots
                            .iter()
                            .enumerate()
                            .map(|(j, dot)| {
                                let w = (dot - max).exp() / sum;
                                w * f64::from(v[at(s.kv_heads, s.keys, b, j, g) + d])
                            })
                            .sum();
                        out[at(s.heads, s.queries, b, i, h) + d] = value as f32;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_definition() {
        for (heads, kv_heads, queries, keys, head_dim, causal) in [
            (3, 3, 5, 5, 8, false),
            (4, 2, 200, 200, 16, true),
            (4, 1, 1, 37, 12, true),
            (2, 2, 130, 257, 24, false),
            (2, 1, 7, 20, 8, true),
        ] {
            let shape = AttentionShape {
                batch: 2,
                heads,
                kv_heads,
                queries,
                keys,
                head_dim,
                causal,
            };
            let q = numbers(2 * queries * heads * head_dim, 1);
            let k = numbers(2 * keys * kv_heads * head_dim, 2);
            let v = numbers(2 * keys * kv_heads * head_dim, 3);
            let strided = |data, heads: usize, len: usize| Strided {
                data,
                position: heads * head_dim,
                head: head_dim,
                batch: BatchStride::plain(len * heads * head_dim),
            };
            let found = attention(
                strided(&q, heads, queries),
                strided(&k, kv_heads, keys),
                strided(&v, kv_heads, keys),
                shape,
            );
            for (f, e) in found.iter().zip(naive(&q, &k, &v, shape)) {
                assert!((f - e).abs() < 5e-6, "{f} is not {e}");
            }
        }
    }
}
