//! A cache of the features that frozen encoders compute for clips. Each encoder encodes each clip once; later
//! epochs, stages and runs read the result.
//!
//! A [`FeatureCache`] is a folder:
//!
//! ```text
//! shards/<time>-<process>-<count>.safetensors   features by key; the header is the index of the shard
//! digests/<digest of a path>.json               the SHA-256 of a large file, with its size and modification time
//! claims/<process>-<count>.claims               the keys that a running `encode` is working on
//! ```
//!
//! A key ([`ClipKey`]) is a digest of everything that the features depend on: the id, sizes, preprocessing and number
//! format of the encoder, the contents of its weights and configuration, the name and version of its plugin, how
//! frames are resized to squares, the contents of the clip, and which frames are selected. If any of these changes,
//! the old features are not found, so the cache never returns outdated features.
//!
//! Shards are immutable. They are created by renaming, and any number of processes may write and read at the same
//! time. Features have checksums; a damaged shard is skipped and reported ([`FeatureCache::take_notices`]).
//! Encoding processes share the work through [`Claims`].

mod cache;
mod claims;
mod digest;
mod error;
mod key;
mod shard;
#[cfg(test)]
mod tests;

pub use cache::FeatureCache;
pub use claims::Claims;
pub use digest::Digests;
pub use error::FeatureError;
pub use key::{ClipKey, EncoderIdentity, EncoderKey};
pub use shard::StoreDtype;
