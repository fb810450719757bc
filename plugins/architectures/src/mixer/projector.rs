//! The sizes of projectors, and their cost.

use super::{
    cost::Cost,
    init::Init,
    kind::{MixerKind, Mlp, Pooling},
    shape::EncoderShape,
};
use crate::Result;
use merv_plugin_api::PluginError;

/// The number of attention heads of `attntv`, for any width.
pub const HEADS: usize = 8;

/// The ratio of the hidden width of `attntv`'s perceptron to its input width.
pub const MLP_RATIO: usize = 4;

/// The initial standard deviation of the queries and weights of `attntv`.
pub const DEVIATION: f64 = 0.02;

/// The initialisation of the weights and biases of `attntv`'s linear layers, including those after the pooling.
pub const ATTENTIVE_LINEAR: [Init; 2] = [Init::Normal(DEVIATION), Init::Zeros];

/// The side of the depthwise kernels of `conv`.
pub const KERNEL: usize = 3;

/// The number of blocks in a stage of `conv`.
const DEPTH: usize = 3;

/// The number of taps of the kernel of `3dconv` along one axis.
pub const TAPS: usize = 3;

/// Returns the rows and columns of `spatial` features, which are pooled to `side` · `side`: as upstream does, as many rows as
/// fit into a square.
///
/// # Errors
///
/// When the features do not form a grid.
pub fn grid(spatial: usize, side: usize) -> Result<[usize; 2]> {
    let rows = spatial.isqrt();
    if rows == 0 || !spatial.is_multiple_of(rows) || side == 0 {
        return Err(PluginError::invalid(format!(
            "{spatial} features per time step do not form a grid that can be pooled to {side} by {side}"
        )));
    }
    Ok([rows, spatial / rows])
}

/// Returns the input width of the perceptron. The output of a convolution already has the width of the language model.
pub fn mlp_width(pooling: Pooling, width: usize, llm_width: usize) -> usize {
    match pooling {
        Pooling::Conv | Pooling::Conv3d => llm_width,
        Pooling::None | Pooling::Avg | Pooling::Avg3d | Pooling::Attntv => width,
    }
}

/// Returns the cost of the projector of one encoder.
pub fn cost(kind: MixerKind, shape: EncoderShape, llm_width: usize) -> Cost {
    let EncoderShape {
        width,
        temporal,
        spatial,
    } = shape;
    let pooling = kind.projector.pooling;
    let pool = match pooling {
        Pooling::None | Pooling::Avg | Pooling::Avg3d => Cost::default(),
        Pooling::Attntv => attentive_pool_cost(kind.token_length, width, temporal, spatial),
        Pooling::Conv => conv_cost(width, llm_width, temporal, spatial, kind.token_length),
        Pooling::Conv3d => conv_3d_cost(width, llm_width, temporal.saturating_mul(spatial)),
    };
    let tokens = kind.projected_tokens(temporal, spatial);
    pool + mlp_cost(
        kind.projector.mlp,
        mlp_width(pooling, width, llm_width),
        llm_width,
        tokens,
    )
}

/// Returns the cost for `temporal` time steps with `spatial` features each.
fn attentive_pool_cost(queries: usize, width: usize, temporal: usize, spatial: usize) -> Cost {
    let rows = queries.saturating_mul(temporal);
    let hidden = width.saturating_mul(MLP_RATIO);
    [
        Cost::parameters(queries.saturating_mul(width)),
        Cost::norm(width),
        Cost::linear(width, width, rows),
        Cost::linear(
            width,
            width.saturating_mul(2),
            temporal.saturating_mul(spatial),
        ),
        // Scores, and the weighted mean of the values.
        Cost::macs(&[2, rows, spatial, width]),
        Cost::linear(width, width, rows),
        Cost::norm(width),
        Cost::linear(width, hidden, rows),
        Cost::linear(hidden, width, rows),
    ]
    .into_iter()
    .sum()
}

/// Returns the numbers of the blocks of a stage of `conv`, from 1, with their input widths.
pub fn block_widths(first: usize, others: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=DEPTH).map(move |block| (block, if block == 1 { first } else { others }))
}

/// Returns the width between squeeze and excitation: a quarter of the input width of the block, rounded half to even as
/// in Python. If that is 0, it is timm's default for the inner width.
pub fn squeezed(inputs: usize, width: usize) -> usize {
    match (inputs as f64 * 0.25).round_ties_even() as usize {
        0 => ((width / 16 + 4) / 8 * 8).max(8),
        squeezed => squeezed,
    }
}

/// Returns the cost for `temporal` time steps with `spatial` features each, pooled to `tokens`.
fn conv_cost(
    width: usize,
    llm_width: usize,
    temporal: usize,
    spatial: usize,
    tokens: usize,
) -> Cost {
    let stage = |width, positions: usize| -> Cost {
        let rows = temporal.saturating_mul(positions);
        block_widths(width, llm_width)
            .map(|(_, inputs)| block_cost(inputs, llm_width, temporal, rows))
            .sum()
    };
    stage(width, spatial) + stage(llm_width, tokens)
}

fn block_cost(inputs: usize, width: usize, temporal: usize, rows: usize) -> Cost {
    let squeezed = squeezed(inputs, width);
    let skip = if inputs == width {
        Cost::default()
    } else {
        Cost::matrix(inputs, width, rows) + Cost::norm(width)
    };
    [
        Cost::matrix(inputs, width, rows),
        Cost::norm(width),
        Cost::matrix(KERNEL * KERNEL, width, rows),
        Cost::norm(width),
        Cost::linear(width, squeezed, temporal),
        Cost::linear(squeezed, width, temporal),
        Cost::matrix(width, width, rows),
        Cost::norm(width),
        skip,
    ]
    .into_iter()
    .sum()
}

/// Returns the cost of the convolution over `positions` positions in time and space.
fn conv_3d_cost(width: usize, llm_width: usize, positions: usize) -> Cost {
    Cost::linear(width.saturating_mul(TAPS.pow(3)), llm_width, positions)
}

/// Returns the cost for `rows` features.
fn mlp_cost(kind: Mlp, width: usize, llm_width: usize, rows: usize) -> Cost {
    mlp_widths(kind, width, llm_width)
        .windows(2)
        .map(|pair| Cost::linear(pair[0], pair[1], rows))
        .sum()
}

/// Returns the widths before, between and after the layers.
pub fn mlp_widths(kind: Mlp, width: usize, llm_width: usize) -> Vec<usize> {
    match kind {
        Mlp::Linear => vec![width, llm_width],
        Mlp::Gelu => vec![width, llm_width, llm_width],
        Mlp::FusedGelu => vec![width, width.saturating_mul(4), llm_width, llm_width],
        Mlp::None => vec![width],
    }
}
