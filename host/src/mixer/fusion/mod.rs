//! Fusions: the projected features of all encoders made one sequence.

mod cross_attention;

pub use cross_attention::CrossAttention;
