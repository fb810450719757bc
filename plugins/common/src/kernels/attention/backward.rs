//! The backward pass of attention.

use super::layout::{Heads, Span, Strided, block_of, rows_of, transposed};
use crate::kernels::{
    disjoint::{Disjoint, Operand, matmul},
    softmax::{softmax_backward, softmax_rows},
};
use rayon::prelude::*;

/// Where the gradients of queries, keys and values are written. Each has the layout of its operand and starts
/// as zeros; the gradients are added to it.
pub struct AttentionGradients<'a> {
    /// From the first head of the first position.
    pub q: &'a mut [f32],
    /// As `q`.
    pub k: &'a mut [f32],
    /// As `q`.
    pub v: &'a mut [f32],
}

/// The backward pass of [`attention_of`](super::attention_of), from
/// `gradient [all queries, heads · head_dim]`. The probabilities are computed again, one block of queries at
/// a time.
pub fn attention_backward(
    q: Strided<'_>,
    k: Strided<'_>,
    v: Strided<'_>,
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    out: AttentionGradients<'_>,
) {
    let pass = Backward {
        q: Operands::new(q, out.q),
        k: Operands::new(k, out.k),
        v: Operands::new(v, out.v),
        spans,
        heads,
        gradient,
    };
    pass.run();
}

/// As [`attention_backward`], for queries, keys and values that share the rows of one matrix. Keys begin `k`
/// elements and values `v` elements after the queries; so do their gradients in `out`.
pub fn attention_backward_fused(
    data: Strided<'_>,
    [k, v]: [usize; 2],
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    out: &mut [f32],
) {
    let q = Operands::new(data, out);
    let pass = Backward {
        k: q.starting_at(k),
        v: q.starting_at(v),
        q,
        spans,
        heads,
        gradient,
    };
    pass.run();
}

/// As [`attention_backward`], for keys and values that share the rows of one matrix. Values begin `v`
/// elements after the keys; so do their gradients in the second of the two outputs, which has that matrix's
/// layout.
pub fn attention_backward_with_values(
    q: Strided<'_>,
    keys: Strided<'_>,
    v: usize,
    spans: &[Span],
    heads: Heads,
    gradient: &[f32],
    [query_gradients, key_value_gradients]: [&mut [f32]; 2],
) {
    let k = Operands::new(keys, key_value_gradients);
    let pass = Backward {
        q: Operands::new(q, query_gradients),
        v: k.starting_at(v),
        k,
        spans,
        heads,
        gradient,
    };
    pass.run();
}

/// Queries, keys or values, and where their gradients are written.
#[derive(Clone, Copy)]
struct Operands<'a> {
    values: Strided<'a>,
    gradients: Disjoint<'a>,
    /// The first element of `gradients` that belongs to `values`.
    start: usize,
}

impl<'a> Operands<'a> {
    fn new(values: Strided<'a>, gradients: &'a mut [f32]) -> Self {
        Self {
            values,
            gradients: Disjoint::new(gradients),
            start: 0,
        }
    }

    /// Returns the operand that begins `start` elements later in each row of the same matrix.
    fn starting_at(&self, start: usize) -> Self {
        let data = self.values.data;
        Self {
            values: Strided {
                data: &data[start.min(data.len())..],
                ..self.values
            },
            start,
            ..*self
        }
    }

    /// Returns the element of `gradients` where a position of a head begins.
    fn gradient_start(&self, sequence: usize, head: usize, position: usize) -> usize {
        let Strided {
            head: head_stride,
            position: position_stride,
            ..
        } = self.values;
        self.start + sequence + head * head_stride + position * position_stride
    }
}

/// A backward pass: its operands and the gradient that it starts from.
struct Backward<'a> {
    q: Operands<'a>,
    k: Operands<'a>,
    v: Operands<'a>,
    spans: &'a [Span],
    heads: Heads,
    /// `[all queries, heads · head_dim]`
    gradient: &'a [f32],
}

/// All queries of one sequence for one key head. No two tasks add to the same gradients.
struct Task<'a> {
    span: &'a Span,
    /// The first row of the sequence in the incoming gradient.
    row: usize,
    kv_head: usize,
}

/// Buffers that a thread keeps from one task to the next.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    slopes: Vec<f32>,
}

impl Backward<'_> {
    fn run(&self) {
        if self.heads.heads * self.heads.head_dim == 0 {
            return;
        }
        let kv_heads = self.heads.kv_heads;
        let mut tasks = Vec::with_capacity(self.spans.len() * kv_heads);
        let mut row = 0;
        for span in self.spans {
            if span.keys > 0 && span.queries > 0 {
                tasks.extend((0..kv_heads).map(|kv_head| Task { span, row, kv_head }));
            }
            row += span.queries;
        }
        tasks
            .into_par_iter()
            .for_each_init(Scratch::default, |scratch, task| {
                self.run_task(&task, scratch);
            });
    }

    fn run_task(&self, task: &Task<'_>, scratch: &mut Scratch) {
        let (span, heads) = (task.span, self.heads);
        let group = heads.heads / heads.kv_heads;
        let block = block_of(span.queries);
        for first in (0..span.queries).step_by(block) {
            let count = block.min(span.queries - first);
            for head in task.kv_head * group..(task.kv_head + 1) * group {
                self.run_block(task, head, [first, count], scratch);
            }
        }
    }

    /// The `count` queries from `first` of one query head.
    fn run_block(
        &self,
        task: &Task<'_>,
        head: usize,
        [first, count]: [usize; 2],
        Scratch { scores, slopes }: &mut Scratch,
    ) {
        let &Task { span, row, kv_head } = task;
        let (q, k, v, heads) = (self.q, self.k, self.v, self.heads);
        let (head_dim, width) = (heads.head_dim, heads.heads * heads.head_dim);
        let visible = heads.visible(span, first, count);
        let queries = rows_of(&q.values, span.q, head, first);
        let keys = rows_of(&k.values, span.k, kv_head, 0);
        let values = rows_of(&v.values, span.v, kv_head, 0);
        scores.resize(count * visible, 0.0);
        slopes.resize(count * visible, 0.0);
        let scale = heads.scale();
        let sizes = [count, head_dim, visible];
        matmul(queries, transposed(keys), sizes, scores, visible, scale);
        softmax_rows(scores, visible, heads.causal);
        let incoming = Operand {
            data: &self.gradient[(row + first) * width + head * head_dim..],
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
        let q_start = q.gradient_start(span.q, head, first);
        let k_start = k.gradient_start(span.k, kv_head, 0);
        let v_start = v.gradient_start(span.v, kv_head, 0);
        let [q_row, k_row, v_row] = [q, k, v].map(|operands| operands.values.position);
        // SAFETY: the rows are those of this sequence and the columns those of this task's heads. The caller
        // guarantees that no two sequences overlap.
        unsafe {
            let sizes = [visible, count, head_dim];
            let (to_keys, to_values) = (transposed(slopes), transposed(probabilities));
            v.gradients
                .matmul(to_values, incoming, sizes, v_start, v_row, 1.0, true);
            k.gradients
                .matmul(to_keys, queries, sizes, k_start, k_row, scale, true);
            let sizes = [count, visible, head_dim];
            q.gradients
                .matmul(slopes, keys, sizes, q_start, q_row, scale, true);
        }
    }
}
