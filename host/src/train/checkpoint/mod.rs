//! Checkpoints: `checkpoints/step-00000512/` with a safetensors file a trained part (`mixer.safetensors`),
//! one each for the optimizer's moments, and `state.json`.
//!
//! A checkpoint is written beside its place and renamed when all of it is on the disk: what has a
//! checkpoint's name is whole. Older ones go only after that.

mod error;
mod folder;
mod names;
mod read;
mod state;
mod tensor_file;
#[cfg(test)]
mod tests;
mod write;

pub use error::CheckpointError;
pub use folder::{Checkpoints, Saved, SavedFile};
pub(super) use names::{CHECKPOINTS, file_name};
pub use state::State;
pub use write::{PartToSave, is_writable, untrained};
