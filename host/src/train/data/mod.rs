//! Training data, from the file of examples to batches in memory.
//!
//! `scan` finds the examples in the file, `entry` and `media` check them, `index` keeps their positions,
//! `batches` groups them, `tokens` turns their text into ids and labels, and `loader` reads and decodes them in
//! the background.

mod batches;
mod entry;
mod error;
mod index;
mod loader;
mod media;
mod scan;
mod tokens;
mod unique;

pub use batches::Batching;
pub use entry::{Example, ExampleFault};
pub use error::DataError;
pub use index::{BrokenExample, Entry, Index, each_example};
pub use loader::{BatchRequest, LoadedBatch, LoadedExample, Loader, LoaderError, Source};
pub use media::Modality;
pub use tokens::{ExampleTokenizer, ExampleTokenizerError, Tokens};
