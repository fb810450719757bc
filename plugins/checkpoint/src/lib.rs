//! Checkpoints, read where they lie.
//!
//! [`Checkpoint::open`] maps one or several files into memory and says which tensors they hold. The
//! format is told by the content, never by the file's name:
//!
//! | format | read |
//! |---|---|
//! | safetensors | single files and shards |
//! | PyTorch's zip archives (`.bin`, `.pt`, `.pth`) | nested dictionaries, views, shared storages |
//! | PyTorch's files from before those | the same |
//! | GGUF, versions 2 and 3 | metadata and tensors, quantised ones too |
//!
//! Files are not trusted. Nothing in them is executed: a pickle is interpreted by a machine that knows the
//! opcodes and the names that `torch.save` writes, and refuses all others by name. Counts, sizes and offsets are checked against the file before anything is allocated for them; nothing recurses with the
//! depth of the input.
//!
//! [`ShardIndex`] reads the index of a checkpoint in several files, [`published`] knows the names in MERV's
//! own checkpoints, and [`text`] reads the text files that lie beside checkpoints.

mod checkpoint;
mod dtype;
mod error;
mod gguf;
mod mapped;
pub mod published;
mod pytorch;
mod safetensors_file;
mod shards;
mod tensor;
pub mod text;

pub use checkpoint::{Checkpoint, Mapping};
pub use dtype::{GgmlType, StoredDtype};
pub use error::CheckpointError;
pub use gguf::{FromGguf, GgufArray, GgufMetadata, GgufValue};
pub use shards::ShardIndex;
pub use tensor::StoredTensor;
