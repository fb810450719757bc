//! The loss of a language model.

use crate::{Result, kernels, layers::linear::Linear};
use merv_architectures::llama::check_labels;

/// The largest number of logits in memory at the same time: 16 MiB.
const LOGITS: usize = 4 << 20;

/// Returns the summed cross-entropy of `head(hidden)` against `labels`. If `backward`, it also returns the
/// gradient of `hidden` and adds to the gradient of the head. The logits of only some rows are in memory at
/// the same time.
///
/// # Shapes
///
/// `hidden [rows, width]`, `labels [rows]` → a sum, and `[rows, width]`
///
/// # Errors
///
/// When a label is not one of the head's outputs.
pub fn cross_entropy(
    hidden: &[f32],
    head: &Linear,
    labels: &[u32],
    backward: bool,
) -> Result<(f64, Vec<f32>)> {
    let (width, vocabulary) = (head.inputs(), head.outputs());
    check_labels(labels, vocabulary)?;
    let rows = (LOGITS / vocabulary.max(1)).clamp(16, 1 << 20);
    let mut sum = 0.0;
    let mut gradient = vec![0.0; if backward { hidden.len() } else { 0 }];
    for (index, labels) in labels.chunks(rows).enumerate() {
        let range = index * rows * width..(index * rows + labels.len()) * width;
        let part = &hidden[range.clone()];
        let mut logits = head.product(part);
        sum += kernels::cross_entropy::cross_entropy(&mut logits, vocabulary, labels);
        if backward {
            head.add_gradients(part, &logits);
            head.input_gradient(&logits, &mut gradient[range], false);
        }
    }
    Ok((sum, gradient))
}
