//! Both passes of attention against their definitions.

use super::*;
use crate::kernels::numbers::numbers;

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

/// Compares the gradient of each operand with finite differences of the forward pass.
#[test]
fn gradients_match_finite_differences() {
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
fn a_fused_backward_pass_equals_the_separate_one() {
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
