//! What frozen encoders made of clips, kept: each clip goes through each encoder once, and later epochs,
//! stages and runs read the result.
//!
//! A [`FeatureCache`] is a folder:
//!
//! ```text
//! shards/<time>-<process>-<count>.safetensors   features by key; the header is the shard's index
//! digests/<digest of a path>.json               the SHA-256 of a large file, and when it had it
//! claims/<process>-<count>.claims               what a running `encode` is at work on
//! ```
//!
//! A key ([`ClipKey`]) is a digest of everything that the features depend on: the encoder's id, sizes,
//! preprocessing and number format, the content of its weights and configuration, its plugin's name and
//! version, how frames become squares, the content of the clip and which of its frames are looked at.
//! Whatever changes, the old features are simply not found; nothing is ever out of date.
//!
//! Shards are never changed: they appear whole, by renaming, and any number of processes may add and
//! read at once. Features carry checksums; a shard that is damaged is left aside, and said
//! ([`FeatureCache::take_notices`]). Processes that encode share the work by [`Claims`].

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
