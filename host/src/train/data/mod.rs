//! Training data, from the file of examples to batches that are ready to be computed.
//!
//! `scan` finds the examples in the file, `entry` and `media` check what they say, `index` knows where each
//! lies, `batches` which of them belong together, `tokens` how their text becomes ids and labels, and `loader`
//! has them read and decoded in the background.

mod batches;
mod entry;
mod error;
mod index;
mod loader;
mod media;
mod scan;
mod tokens;

pub use batches::Batching;
pub use entry::{Example, Fault};
pub use error::DataError;
pub use index::{Broken, Entry, Index, each_example};
pub use loader::{Batch, Loader, LoaderError, Ready, Source, Work};
pub use media::Modality;
pub use tokens::{FormError, TextForm, Tokens};
