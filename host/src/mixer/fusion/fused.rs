//! The output of a fusion, and functions that several fusions share.

use candle_core::Tensor;
use merv_plugin_sdk::{PluginError, Result};

/// One sequence of visual tokens.
pub struct Fused {
    /// `[batch, tokens, llm_width]`
    pub tokens: Tensor,
    /// The weights of the encoders, if the fusion has weights: `[batch, encoders]`.
    pub weights: Option<Tensor>,
}

/// Returns the weighted sum of the features of the encoders.
///
/// # Shapes
///
/// For each encoder `[batch, tokens, width]`, or `[batch, 1, width]`, which is repeated, and weights
/// `[batch, encoders]` → `[batch, tokens, width]`
pub(super) fn weighted_sum(
    projected: &[Tensor],
    weights: &Tensor,
    tokens: usize,
) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (index, features) in projected.iter().enumerate() {
        let (batch, found, width) = features.dims3()?;
        let features = match found {
            1 => features.broadcast_as((batch, tokens, width))?,
            _ => features.clone(),
        };
        let weight = weights.narrow(1, index, 1)?.unsqueeze(2)?;
        let weighted = features.broadcast_mul(&weight)?;
        sum = Some(match sum {
            Some(sum) => (sum + weighted)?,
            None => weighted,
        });
    }
    sum.ok_or_else(|| PluginError::invalid("expected the features of at least one encoder"))
}

/// Refuses features that are not all `[batch, tokens, width]` or `[batch, 1, width]`.
pub(super) fn same_shapes(projected: &[Tensor], tokens: usize) -> Result<()> {
    let shapes = projected
        .iter()
        .map(Tensor::dims3)
        .collect::<candle_core::Result<Vec<_>>>()?;
    let Some(&(batch, _, width)) = shapes.first() else {
        return Err(PluginError::invalid(
            "expected the features of at least one encoder",
        ));
    };
    if shapes
        .iter()
        .any(|&(b, t, w)| b != batch || w != width || (t != tokens && t != 1))
    {
        return Err(PluginError::invalid(format!(
            "expected features of the shape [{batch}, {tokens}, {width}] from every encoder, found {shapes:?}"
        )));
    }
    Ok(())
}
