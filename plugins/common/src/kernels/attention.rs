//! Scaled dot-product attention (arXiv 1706.03762) without the full score matrix: a block of queries
//! at a time, whose scores stay in the cache. Operands are read with strides where they lie, so that
//! heads and frames need no rearranging.

use super::disjoint::{Disjoint, Operand, matmul};
use super::softmax::{softmax_backward, softmax_rows};
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
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Keys that the `count` queries from `first` on see, the last of them at least.
    fn visible(&self, span: &Span, first: usize, count: usize) -> usize {
        if self.causal {
            (span.keys + first + count).saturating_sub(span.queries)
        } else {
            span.keys
        }
    }
}

impl AttentionShape {
    fn heads(&self) -> Heads {
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

/// `softmax(q·kᵀ / √head_dim)·v`, written as `[batch, queries, heads · head_dim]`, the sequences in the
/// order of `batch`.
pub fn attention(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    shape: AttentionShape,
) -> Vec<f32> {
    let spans = shape.spans(&q.batch, &k.batch, &v.batch);
    attention_of(q, k, v, &spans, shape.heads())
}

/// Queries that are computed together: blocks of equal size, for a short last one would be a product of a
/// few rows.
fn block_of(queries: usize) -> usize {
    queries
        .div_ceil(queries.div_ceil(QUERY_BLOCK).max(1))
        .max(1)
}

/// The rows of a head's positions from `first` on.
fn rows_of<'a>(m: &Strided<'a>, start: usize, head: usize, first: usize) -> Operand<'a> {
    Operand {
        data: &m.data[start + head * m.head + first * m.position..],
        row: m.position,
        column: 1,
    }
}

fn transposed(m: Operand<'_>) -> Operand<'_> {
    Operand {
        row: m.column,
        column: m.row,
        ..m
    }
}

/// As [`attention`], of sequences that may differ in length: `[all queries, heads · head_dim]`, in the
/// order of `spans`. The strides between sequences are not read.
pub fn attention_of(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    spans: &[Span],
    heads: Heads,
) -> Vec<f32> {
    let Heads {
        heads: count_of_heads,
        kv_heads,
        head_dim,
        causal,
    } = heads;
    let width = count_of_heads * head_dim;
    let group = count_of_heads / kv_heads;
    let rows: usize = spans.iter().map(|span| span.queries).sum();
    let mut output = vec![0.0f32; rows * width];
    if width == 0 {
        return output;
    }
    let sizes = heads;
    let task = |scores: &mut Vec<f32>, part: Part<'_>| {
        let Part {
            span,
            first,
            count,
            ref heads,
            out,
        } = part;
        let visible = sizes.visible(span, first, count);
        scores.resize(count * visible, 0.0);
        for head in heads.clone() {
            let kv_head = head / group;
            matmul(
                rows_of(&q, span.q, head, first),
                transposed(rows_of(&k, span.k, kv_head, 0)),
                [count, head_dim, visible],
                scores,
                visible,
                sizes.scale(),
            );
            softmax_rows(scores, visible, causal);
            matmul(
                Operand {
                    data: scores,
                    row: visible,
                    column: 1,
                },
                rows_of(&v, span.v, kv_head, 0),
                [count, visible, head_dim],
                &mut out[(head - heads.start) * head_dim..],
                width,
                1.0,
            );
        }
    };
    let mut parts = Vec::with_capacity(spans.len());
    let mut rest = output.as_mut_slice();
    for span in spans {
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(span.queries * width);
        rest = after;
        if span.keys == 0 || span.queries == 0 {
            continue;
        }
        if span.queries == 1 {
            // Decoding: there is but one row, so the heads are what can be shared out.
            for (head, out) in rows.chunks_exact_mut(head_dim).enumerate() {
                parts.push(Part {
                    span,
                    first: 0,
                    count: 1,
                    heads: head..head + 1,
                    out,
                });
            }
        } else {
            let block = block_of(span.queries);
            for (index, out) in rows.chunks_mut(block * width).enumerate() {
                let (first, count) = (index * block, out.len() / width);
                parts.push(Part {
                    span,
                    first,
                    count,
                    heads: 0..count_of_heads,
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
    span: &'a Span,
    /// The first query.
    first: usize,
    /// How many queries.
    count: usize,
    heads: Range<usize>,
    /// From the first head of the first query on; rows are `heads · head_dim` of the whole apart.
    out: &'a mut [f32],
}

/// The gradients of queries, keys and values, each laid out as what it is the gradient of, and zero at
/// first: what is found is added.
pub struct AttentionGradients<'a> {
    /// From the first head of the first position on.
    pub q: &'a mut [f32],
    /// As `q`.
    pub k: &'a mut [f32],
    /// As `q`.
    pub v: &'a mut [f32],
}

/// Where the gradients of a fused `[rows, queries | keys | values]` are: they begin at 0, at `k` and at
/// `v`.
#[derive(Debug, Clone, Copy)]
struct Starts {
    k: usize,
    v: usize,
}

/// The backward pass of [`attention_of`], from `gradient [all queries, heads · head_dim]`. The
/// probabilities are computed again, a block of queries at a time.
pub fn attention_backward(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    out: AttentionGradients<'_>,
) {
    let [dq, dk, dv] = [out.q, out.k, out.v].map(Disjoint::new);
    backward(
        q,
        k,
        v,
        spans,
        heads,
        gradient,
        [dq, dk, dv],
        Starts { k: 0, v: 0 },
    );
}

/// As [`attention_backward`], where queries, keys and values are parts of the rows of one matrix: keys
/// begin `k` elements and values `v` elements after the queries, and so do their gradients in `out`.
pub fn attention_backward_fused(
    data: Strided<'_>,
    [k, v]: [usize; 2],
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    out: &mut [f32],
) {
    let out = Disjoint::new(out);
    let part = |start: usize| Strided {
        data: &data.data[start.min(data.data.len())..],
        ..data
    };
    let starts = Starts { k, v };
    backward(
        part(0),
        part(k),
        part(v),
        spans,
        heads,
        gradient,
        [out; 3],
        starts,
    );
}

/// As [`attention_backward`], where keys and values are parts of the rows of one matrix: values begin `v`
/// elements after the keys, and so do their gradients in `out`, the second of which is that matrix's.
pub fn attention_backward_with_values(
    q: Strided<'_>,
    keys: Strided<'_>,
    v: usize,
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    [of_queries, out]: [&mut [f32]; 2],
) {
    let [dq, out] = [of_queries, out].map(Disjoint::new);
    let values = Strided {
        data: &keys.data[v.min(keys.data.len())..],
        ..keys
    };
    let starts = Starts { k: 0, v };
    backward(
        q,
        keys,
        values,
        spans,
        heads,
        gradient,
        [dq, out, out],
        starts,
    );
}

#[allow(clippy::too_many_arguments)]
fn backward(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    [dq, dk, dv]: [Disjoint<'_>; 3],
    starts: Starts,
) {
    let Heads {
        heads: count_of_heads,
        kv_heads,
        head_dim,
        causal,
    } = heads;
    let width = count_of_heads * head_dim;
    if width == 0 {
        return;
    }
    let group = count_of_heads / kv_heads;
    // A task is all queries of one sequence and one key head: what it adds to is its own.
    let mut tasks = Vec::with_capacity(spans.len() * kv_heads);
    let mut row = 0;
    for span in spans {
        if span.keys > 0 && span.queries > 0 {
            tasks.extend((0..kv_heads).map(|kv_head| (span, row, kv_head)));
        }
        row += span.queries;
    }
    let task = |(scores, slopes): &mut (Vec<f32>, Vec<f32>),
                (span, row, kv_head): (&Span, usize, usize)| {
        let block = block_of(span.queries);
        let keys = rows_of(&k, span.k, kv_head, 0);
        let values = rows_of(&v, span.v, kv_head, 0);
        let (k_start, v_start) = (
            starts.k + span.k + kv_head * k.head,
            starts.v + span.v + kv_head * v.head,
        );
        for first in (0..span.queries).step_by(block) {
            let count = block.min(span.queries - first);
            let visible = heads.visible(span, first, count);
            scores.resize(count * visible, 0.0);
            slopes.resize(count * visible, 0.0);
            for head in kv_head * group..(kv_head + 1) * group {
                let queries = rows_of(&q, span.q, head, first);
                let scale = heads.scale();
                let sizes = [count, head_dim, visible];
                matmul(queries, transposed(keys), sizes, scores, visible, scale);
                softmax_rows(scores, visible, causal);
                let incoming = Operand {
                    data: &gradient[(row + first) * width + head * head_dim..],
                    row: width,
                    column: 1,
                };
                matmul(incoming, transposed(values), sizes, slopes, visible, 1.0);
                softmax_backward(scores, slopes, visible);
                let square = |data| Operand {
                    data,
                    row: visible,
                    column: 1,
                };
                let (probabilities, slopes) = (square(&*scores), square(&*slopes));
                let q_start = span.q + head * q.head + first * q.position;
                // SAFETY: rows of this sequence and columns of this task's heads, in which the caller
                // lets no two sequences overlap.
                unsafe {
                    let sizes = [visible, count, head_dim];
                    let (to_keys, to_values) = (transposed(slopes), transposed(probabilities));
                    dv.matmul(to_values, incoming, sizes, v_start, v.position, 1.0, true);
                    dk.matmul(to_keys, queries, sizes, k_start, k.position, scale, true);
                    let sizes = [count, visible, head_dim];
                    dq.matmul(slopes, keys, sizes, q_start, q.position, scale, true);
                }
            }
        }
    };
    tasks
        .into_par_iter()
        .for_each_init(Default::default, |scratch, part| task(scratch, part));
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

    fn rows(head_dim: usize, data: &[f32], position: usize) -> Strided<'_> {
        Strided {
            data,
            position,
            head: head_dim,
            batch: BatchStride::plain(0),
        }
    }

    /// Against finite differences of the forward pass, each operand in turn; separate and fused.
    #[test]
    fn the_backward_pass_is_the_slope_of_the_forward_pass() {
        let (heads, kv_heads, head_dim) = (4, 2, 6);
        let lengths = [(5, 5), (130, 130), (3, 9)];
        for causal in [false, true] {
            let sizes = Heads {
                heads,
                kv_heads,
                head_dim,
                causal,
            };
            let (q_row, kv_row) = (heads * head_dim, kv_heads * head_dim);
            let (mut spans, mut queries, mut keys) = (Vec::new(), 0, 0);
            for (q, k) in lengths {
                spans.push(Span {
                    queries: q,
                    keys: k,
                    q: queries * q_row,
                    k: keys * kv_row,
                    v: keys * kv_row,
                });
                queries += q;
                keys += k;
            }
            let inputs = [
                numbers(queries * q_row, 1),
                numbers(keys * kv_row, 2),
                numbers(keys * kv_row, 3),
            ];
            let weights = numbers(queries * q_row, 4);
            let value = |inputs: &[Vec<f32>; 3]| -> f64 {
                let [q, k, v] = inputs;
                let out = attention_of(
                    rows(head_dim, q, q_row),
                    rows(head_dim, k, kv_row),
                    rows(head_dim, v, kv_row),
                    &spans,
                    sizes,
                );
                out.iter()
                    .zip(&weights)
                    .map(|(o, w)| f64::from(*o) * f64::from(*w))
                    .sum()
            };
            let mut gradients = inputs.clone().map(|input| vec![0.0; input.len()]);
            let [q, k, v] = &inputs;
            let [dq, dk, dv] = &mut gradients;
            attention_backward(
                rows(head_dim, q, q_row),
                rows(head_dim, k, kv_row),
                rows(head_dim, v, kv_row),
                &spans,
                sizes,
                &weights,
                AttentionGradients {
                    q: dq,
                    k: dk,
                    v: dv,
                },
            );
            for (which, gradient) in gradients.iter().enumerate() {
                let length = gradient.len();
                for at in [0, length / 3, length / 2, length - 1] {
                    let slope = {
                        let moved = |by: f32| {
                            let mut inputs = inputs.clone();
                            inputs[which][at] += by;
                            value(&inputs)
                        };
                        (moved(1e-2) - moved(-1e-2)) / 2e-2
                    };
                    let found = f64::from(gradient[at]);
                    assert!(
                        (found - slope).abs() < 2e-3 * (1.0 + slope.abs()),
                        "{causal} {which} {at}: {found}, {slope}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_fused_backward_pass_is_the_separate_one() {
        let (heads, head_dim, length) = (3, 4, 7);
        let (width, row) = (12, 36);
        let sizes = Heads {
            heads,
            kv_heads: heads,
            head_dim,
            causal: false,
        };
        let data = numbers(2 * length * row, 1);
        let gradient = numbers(2 * length * width, 2);
        let spans = [0, length * row].map(|start| Span {
            queries: length,
            keys: length,
            q: start,
            k: start,
            v: start,
        });
        let mut fused = vec![0.0; data.len()];
        attention_backward_fused(
            rows(head_dim, &data, row),
            [width, 2 * width],
            &spans,
            sizes,
            &gradient,
            &mut fused,
        );
        let cut = |data: &[f32], from: usize| -> Vec<f32> {
            data.chunks(row)
                .flat_map(|r| r[from..from + width].to_vec())
                .collect()
        };
        let parts = [0, width, 2 * width].map(|from| cut(&data, from));
        let mut found = [0, 1, 2].map(|_| vec![0.0; 2 * length * width]);
        let spans = [0, length * width].map(|start| Span {
            queries: length,
            keys: length,
            q: start,
            k: start,
            v: start,
        });
        let [q, k, v] = &parts;
        let [dq, dk, dv] = &mut found;
        attention_backward(
            rows(head_dim, q, width),
            rows(head_dim, k, width),
            rows(head_dim, v, width),
            &spans,
            sizes,
            &gradient,
            AttentionGradients {
                q: dq,
                k: dk,
                v: dv,
            },
        );
        for (from, found) in [0, width, 2 * width].into_iter().zip(&found) {
            assert_eq!(&cut(&fused, from), found);
        }
    }
}
