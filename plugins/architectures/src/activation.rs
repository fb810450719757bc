//! Activation functions, with their names in config files.

use serde::Deserialize;

/// The activation of a perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Activation {
    /// The exact GELU.
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU approximated with a hyperbolic tangent. Upstream has four names for it.
    #[serde(
        rename = "gelu_fast",
        alias = "gelu_new",
        alias = "gelu_pytorch_tanh",
        alias = "gelu_tanh"
    )]
    GeluTanh,
    /// The approximation of GELU in OpenAI's CLIP.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// SiLU, also called swish.
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}
