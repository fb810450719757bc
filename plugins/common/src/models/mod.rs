//! Whole models: vision transformers with timm's tensor names, encoders that process one frame at a time, and
//! the arrangement of their tokens as features.

mod clip_tape;
pub mod features;
pub mod frame_encoder;
pub mod frame_tokens;
pub mod vit;

pub use clip_tape::ClipTape;
