//! Whole models: vision transformers under timm's names, encoders that see frame after frame, and how the tokens
//! of a clip become features.

mod clip_tape;
pub mod features;
pub mod frame_encoder;
pub mod frame_tokens;
pub mod timm;
pub mod vit;

pub use clip_tape::ClipTape;
