//! The cost of a mixer.

use super::{fusion, model::MixerModel};
use merv_architectures::mixer::{Cost, EncoderShape, projector};

/// Returns the cost of a mixer for these encoders. `query_width` is the width of the learned query of
/// `cross_attention_avg_lq`, which is known from its weights only (see [`super::query_width`]).
pub fn cost<'p>(
    model: impl Into<MixerModel<'p>>,
    encoders: &[EncoderShape],
    llm_width: usize,
    query_width: usize,
) -> Cost {
    let model = model.into();
    let projectors: Cost = encoders
        .iter()
        .map(|&encoder| projector::cost(model.kind, encoder, llm_width))
        .sum();
    projectors + fusion::cost(model, encoders.len(), llm_width, query_width)
}
