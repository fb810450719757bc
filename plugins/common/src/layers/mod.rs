//! The layers of a transformer.

pub mod attention;
pub mod attention_pool;
pub mod block;
pub mod linear;
pub mod loss;
pub mod mlp;
pub mod norm;
pub mod patch;
pub mod position;
