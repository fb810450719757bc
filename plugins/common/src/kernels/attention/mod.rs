//! Scaled dot-product attention (arXiv 1706.03762) without the full score matrix: one block of queries
//! at a time, whose scores stay in the cache. The operands are read in place, through strides, so that
//! heads and frames are never rearranged.

mod backward;
mod forward;
mod layout;
#[cfg(test)]
mod tests;

pub use backward::{
    AttentionGradients, attention_backward, attention_backward_fused,
    attention_backward_with_values,
};
pub use forward::{attention, attention_of};
pub use layout::{AttentionShape, BatchStride, Heads, Span, Strided};
