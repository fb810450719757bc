//! Converts decoded frames to clips, the inputs of the encoders.
//!
//! The [`PreprocessSpec`](merv_plugin_api::PreprocessSpec) of an encoder defines the format of its frames. The
//! [`ResizeStrategy`] in the registry defines how frames that are not square become square. Work shared by several
//! encoders is done once ([`clips`]).
//!
//! The results match the original's transforms: Pillow's resize exactly (`resize`), torch's resize within
//! rounding (`torch_resize`), and torchvision's normalisation (`normalize`).

mod clip;
mod error;
mod geometry;
mod normalize;
mod pixels;
mod resize;
mod strategy;
#[cfg(test)]
mod tests;
mod torch_resize;

pub use clip::{Clip, ClipRequest, check_spec, clips};
pub use error::TransformError;
pub use pixels::{PixelKind, Pixels};
pub use strategy::ResizeStrategy;
