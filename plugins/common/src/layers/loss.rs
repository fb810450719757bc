//! The loss of a language model.

use crate::{Result, kernels::backward, layers::linear::Linear};

/// Logits that are held at once, at most: 16 MiB of them.
const LOGITS: usize = 4 << 20;

/// The summed cross-entropy of `head(hidden)` against `labels`, and the gradient of `hidden` if asked for;
/// that of the head is then added to the head's. The logits of all rows are never held together.
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
    go_back: bool,
) -> Result<(f64, Vec<f32>)> {
    let (width, vocabulary) = (head.inputs(), head.outputs());
    if let Some(label) = labels.iter().find(|&&label| label as usize >= vocabulary) {
        return Err(merv_plugin_api::PluginError::invalid(format!(
            "expected labels below {vocabulary} or -100, found {label}; do tokenizer and model belong \
             together?"
        )));
    }
    let rows = (LOGITS / vocabulary.max(1)).clamp(16, 1 << 20);
    let mut sum = 0.0;
    let mut gradient = vec![0.0; if go_back { hidden.len() } else { 0 }];
    for (index, labels) in labels.chunks(rows).enumerate() {
        let range = index * rows * width..(index * rows + labels.len()) * width;
        let part = &hidden[range.clone()];
        let mut logits = head.product(part);
        sum += backward::cross_entropy(&mut logits, vocabulary, labels);
        if go_back {
            head.add_gradients(part, &logits);
            head.input_gradient(&logits, &mut gradient[range], false);
        }
    }
    Ok((sum, gradient))
}
