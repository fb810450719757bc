//! The layers of transformers. Matrix products have operands of the model's precision; what is added up along a model, and
//! the norms, are `f32`.

mod linear;
mod norm;
mod mlp;
mod attention;
mod block;
mod position;

pub use attention::{SelfAttention, attend, heads};
pub use block::Block;
pub use linear::{Conv, Linear};
pub use mlp::{Mlp, activate};
pub use norm::{LayerNorm, RmsNorm};
pub use position::TokenEmbedding;
