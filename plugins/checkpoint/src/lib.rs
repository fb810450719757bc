//! Reads checkpoints in place.
//!
//! [`Checkpoint::open`] maps one or more files into memory and lists their tensors. It recognises the
//! format by the content, never by the file name:
//!
//! | format | supported |
//! |---|---|
//! | safetensors | single files and shards |
//! | PyTorch's zip archives (`.bin`, `.pt`, `.pth`) | nested dictionaries, views, shared storages |
//! | PyTorch's legacy files | the same |
//! | GGUF, versions 2 and 3 | metadata and tensors, including quantised ones |
//!
//! Files are not trusted. Nothing in them is executed: pickles are interpreted by a machine that supports
//! the opcodes and the names that `torch.save` writes. Its errors name the opcode or name that it refuses.
//! Counts, sizes and offsets are checked against the file before memory is allocated for them, and the
//! depth of the recursion does not depend on the input.
//!
//! [`ShardIndex`] reads the index of a sharded checkpoint, [`published`] contains the names in MERV's own
//! checkpoints, and [`text`] reads the text files that accompany checkpoints.

mod error;
mod dtype;
mod mapped;
mod tensor;
mod contents;
mod safetensors_file;
mod pytorch;
mod gguf;
mod checkpoint;
pub mod text;
mod shards;
pub mod published;

pub use checkpoint::{Checkpoint, Mapping};
pub use dtype::{GgmlType, StoredDtype};
pub use error::CheckpointError;
pub use gguf::{FromGguf, GgufArray, GgufMetadata, GgufValue};
pub use shards::ShardIndex;
pub use tensor::StoredTensor;
