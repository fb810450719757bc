//! What a reader of any format finds in a file.

use crate::StoredTensor;
use std::collections::BTreeMap;

/// The contents of one file.
pub(crate) struct FileContents {
    /// The tensors, by name.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// Names and kinds of values that are not tensors.
    pub ignored: Vec<(String, &'static str)>,
}
