//! LLaVA's data format, from the JSON file to batches that are ready to be computed.
//!
//! `index` knows where each example lies, `batches` which of them belong together, `tokens` how their
//! text becomes ids and labels, and `loader` has them read and decoded in the background.

mod batches;
mod entry;
mod error;
mod index;
mod loader;
mod tokens;

pub use batches::Batching;
pub use entry::{Example, Modality};
pub use error::DataError;
pub use index::{Broken, Entry, Index};
pub use loader::{Batch, Loader, Ready, Source, Work};
pub use tokens::{TextForm, Tokens};
