//! The forward pass of attention.

use super::layout::{AttentionShape, Heads, Span, Strided, block_of, rows_of, transposed};
use crate::kernels::{
    disjoint::{Operand, matmul},
    softmax::softmax_rows,
};
use rayon::prelude::*;
use std::ops::Range;

/// Returns `softmax(q·kᵀ / √head_dim)·v` as `[batch, queries, heads · head_dim]`.
pub fn attention(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    shape: AttentionShape,
) -> Vec<f32> {
    let spans = shape.spans(&q.batch, &k.batch, &v.batch);
    attention_of(q, k, v, &spans, shape.heads())
}

/// As [`attention`], for sequences of different lengths: returns `[all queries, heads · head_dim]` in the
/// order of `spans`. The strides between sequences are ignored.
pub fn attention_of(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    spans: &[Span],
    heads: Heads,
) -> Vec<f32> {
    let width = heads.heads * heads.head_dim;
    let rows: usize = spans.iter().map(|span| span.queries).sum();
    let mut output = vec![0.0f32; rows * width];
    if width == 0 {
        return output;
    }
    tasks_of(spans, heads, &mut output)
        .into_par_iter()
        .for_each_init(Vec::new, |scores, task| {
            run_task([&q, &k, &v], heads, task, scores);
        });
    output
}

/// Some heads of some queries of one sequence. No two tasks write the same part of the output.
struct Task<'a> {
    span: &'a Span,
    /// The first query.
    first: usize,
    /// The number of queries.
    count: usize,
    heads: Range<usize>,
    /// The output from the first head of the first query. Its rows are `heads · head_dim` of the whole
    /// attention apart.
    out: &'a mut [f32],
}

/// Divides the output into tasks.
fn tasks_of<'a>(spans: &'a [Span], heads: Heads, output: &'a mut [f32]) -> Vec<Task<'a>> {
    let width = heads.heads * heads.head_dim;
    let mut tasks = Vec::with_capacity(spans.len());
    let mut rest = output;
    for span in spans {
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(span.queries * width);
        rest = after;
        if span.keys == 0 || span.queries == 0 {
            continue;
        }
        if span.queries == 1 {
            // Decoding: there is only one row, so the heads are divided instead.
            for (head, out) in rows.chunks_exact_mut(heads.head_dim).enumerate() {
                tasks.push(Task {
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
                tasks.push(Task {
                    span,
                    first,
                    count,
                    heads: 0..heads.heads,
                    out,
                });
            }
        }
    }
    tasks
}

fn run_task([q, k, v]: [&Strided<'_>; 3], heads: Heads, task: Task<'_>, scores: &mut Vec<f32>) {
    let Task {
        span, first, count, ..
    } = task;
    let (head_dim, width) = (heads.head_dim, heads.heads * heads.head_dim);
    let visible = heads.visible(span, first, count);
    scores.resize(count * visible, 0.0);
    for (index, head) in task.heads.enumerate() {
        let kv_head = head / (heads.heads / heads.kv_heads);
        matmul(
            rows_of(q, span.q, head, first),
            transposed(rows_of(k, span.k, kv_head, 0)),
            [count, head_dim, visible],
            scores,
            visible,
            heads.scale(),
        );
        softmax_rows(scores, visible, heads.causal);
        matmul(
            Operand {
                data: scores,
                row: visible,
                column: 1,
            },
            rows_of(v, span.v, kv_head, 0),
            [count, visible, head_dim],
            &mut task.out[index * head_dim..],
            width,
            1.0,
        );
    }
}
