//! Checkpoints: `checkpoints/step-00000512/` has a safetensors file for each trained part
//! (`mixer.safetensors`), one for each of the optimizer's moments, and `state.json`.
//!
//! A checkpoint is written under a temporary name and renamed when all of it is on the disk, so a folder with
//! the name of a checkpoint is always complete. Older checkpoints are removed only after that.

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
pub use folder::{Checkpoints, NO_CHECKPOINT, Saved, SavedFile};
pub(super) use names::{CHECKPOINTS, file_name};
pub use state::State;
pub use write::{PartToSave, is_writable, untrained};
