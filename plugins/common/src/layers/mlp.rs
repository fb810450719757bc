//! The two-layer perceptron of a transformer block.

use crate::{
    Result, activation::Activation, gradients::Parameter, layers::linear::Linear, weights::Scope,
};
use candle_core::Tensor;

/// `fc2(activation(fc1(x)))`: timm's `Mlp`, Hugging Face's `CLIPMLP`.
pub struct Mlp {
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    /// Creates a perceptron from its layers.
    pub fn from_parts(up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            up,
            down,
            activation,
        }
    }

    /// Takes `fc1` and `fc2` from `scope`.
    pub fn new(width: usize, hidden: usize, activation: Activation, scope: &Scope<'_>) -> Self {
        Self {
            up: Linear::new(width, hidden, true, &scope.pp("fc1")),
            down: Linear::new(hidden, width, true, &scope.pp("fc2")),
            activation,
        }
    }

    /// Returns `residual + scale·mlp(x)`.
    ///
    /// # Shapes
    ///
    /// `[.., width]` → the same shape
    ///
    /// # Errors
    ///
    /// When a shape does not fit.
    pub fn forward_added(
        &self,
        x: &Tensor,
        residual: &Tensor,
        scale: Option<&Parameter>,
    ) -> Result<Tensor> {
        self.down.forward_added(
            &self.up.forward_activated(x, self.activation)?,
            residual,
            scale,
        )
    }
}
