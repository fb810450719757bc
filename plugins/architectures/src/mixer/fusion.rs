//! The sizes of fusions, and their cost.

use super::{cost::Cost, kind::FusionKind};

/// The width of the learned query of `cross_attention_avg_lq` in the published models.
pub const PUBLISHED_QUERY_WIDTH: usize = 3072;

/// The tensors of PyTorch's attention that `cross_attention_avg_lq` does not use: its values and its output.
pub const UNUSED: [&str; 3] = ["v_proj_weight", "out_proj.weight", "out_proj.bias"];

/// Returns the cost of a fusion of `encoders` encoders to `tokens` visual tokens. `query_width` is the width of the learned
/// query, if it has one. That of a plugin's fusion is not known here.
pub fn cost(
    fusion: FusionKind,
    encoders: usize,
    llm_width: usize,
    tokens: usize,
    query_width: usize,
) -> Cost {
    match fusion {
        FusionKind::None
        | FusionKind::First
        | FusionKind::Concat
        | FusionKind::QueryMlp
        | FusionKind::Plugin => Cost::default(),
        FusionKind::ConcatChannel => concat_channel_cost(encoders, llm_width, tokens, false),
        FusionKind::ConcatChannelLn => concat_channel_cost(encoders, llm_width, tokens, true),
        FusionKind::Scalar => scalar_cost(encoders, llm_width, tokens),
        FusionKind::CrossAttentionAvgLq => {
            cross_attention_cost(encoders, llm_width, tokens, query_width)
        }
    }
}

/// Returns the cost for `tokens` visual tokens.
fn concat_channel_cost(encoders: usize, llm_width: usize, tokens: usize, norm: bool) -> Cost {
    let width = encoders.saturating_mul(llm_width);
    let linear = Cost::linear(width, llm_width, tokens);
    if norm {
        linear + Cost::norm(width)
    } else {
        linear
    }
}

/// Returns the cost with a query of `query_width`. The values and the output are not used and do not count.
fn cross_attention_cost(
    encoders: usize,
    llm_width: usize,
    tokens: usize,
    query_width: usize,
) -> Cost {
    [
        Cost::parameters(query_width),
        // Queries, keys and values share one bias.
        Cost::parameters(query_width.saturating_mul(3)),
        Cost::matrix(query_width, query_width, 1),
        Cost::matrix(llm_width, query_width, encoders),
        Cost::macs(&[encoders, query_width]),
        Cost::macs(&[encoders, tokens, llm_width]),
    ]
    .into_iter()
    .sum()
}

/// Returns the cost for `tokens` visual tokens.
fn scalar_cost(encoders: usize, llm_width: usize, tokens: usize) -> Cost {
    Cost::parameters(encoders) + Cost::macs(&[encoders, tokens, llm_width])
}
