//! From decoded frames to the clips that the encoders take.
//!
//! Each encoder states in its [`PreprocessSpec`](merv_plugin_api::PreprocessSpec) how it wants its frames; the registry's
//! [`ResizeStrategy`] says what becomes of frames that are not square. What two encoders share is
//! computed once ([`clips`]).
//!
//! The numbers are those of MERV's own transforms: Pillow's resize byte for byte (`resize`),
//! torch's within rounding (`torch_resize`), torchvision's normalisation (`normalize`).

mod clip;
mod error;
mod geometry;
mod normalize;
mod resize;
mod strategy;
#[cfg(test)]
mod tests;
mod torch_resize;

pub use clip::{Clip, ClipRequest, clips};
pub use error::TransformError;
pub use strategy::ResizeStrategy;
