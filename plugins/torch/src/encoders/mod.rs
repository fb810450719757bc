//! The encoders.

mod network;
mod frame_tokens;
mod vit;
mod vivit;
mod languagebind;
mod hiera;
mod family;

pub use family::{Family, PROVIDED};
