//! Projects a pooled feature to the width of the language model: upstream's `LinearProjector`, `MLPProjector` and
//! `FusedMLPProjector`.

use crate::{
    mixer::{layers::Linear, parameters::Scope},
    registry,
};
use candle_core::Tensor;
use merv_architectures::mixer::projector::mlp_widths;
use merv_plugin_sdk::Result;

/// Linear layers with the exact GELU between them. `none` has no layers.
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Takes `projector.{weight,bias}` for a single layer, or `projector.{0,2,4}.{weight,bias}` for several layers, from
    /// `scope`.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be created.
    pub fn new(
        kind: registry::Mlp,
        width: usize,
        llm_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let widths = mlp_widths(kind, width, llm_width);
        let scope = scope.pp("projector");
        let layers = widths.windows(2).enumerate().map(|(index, pair)| {
            let scope = match kind {
                registry::Mlp::Linear => scope.clone(),
                // The indices in upstream's `Sequential` include the activations.
                _ => scope.pp(2 * index),
            };
            Linear::new(pair[0], pair[1], &scope)
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// Applies all layers.
    ///
    /// # Shapes
    ///
    /// `[.., width]` → `[.., llm_width]`
    ///
    /// # Errors
    ///
    /// When the last dimension is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = x.gelu_erf()?;
            }
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}
