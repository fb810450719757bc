//! The mixer: the kinds of projectors and fusions, their sizes and cost, and how new tensors begin.

mod cost;
mod init;
mod shape;
mod kind;
pub mod projector;
pub mod fusion;

pub use cost::Cost;
pub use init::Init;
pub use kind::{FusionKind, MixerKind, Mlp, Pooling, ProjectorKind};
pub use shape::EncoderShape;
