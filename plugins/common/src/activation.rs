//! Activation functions by the names that config files use.

use serde::Deserialize;

/// An activation that [`crate::layers::linear::Linear`] can apply to its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Activation {
    /// The exact GELU.
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU by a hyperbolic tangent: four upstream names for one function.
    #[serde(
        rename = "gelu_fast",
        alias = "gelu_new",
        alias = "gelu_pytorch_tanh",
        alias = "gelu_tanh"
    )]
    GeluTanh,
    /// OpenAI CLIP's approximation.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// SiLU, or swish.
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}
