//! Checks of tensor names for safetensors files: names must be unique, and one name is reserved.

use std::{collections::HashSet, io};
use thiserror::Error;

/// A tensor name that a safetensors file cannot contain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TensorNameError {
    /// The name is reserved for the metadata of the file.
    #[error("a tensor is named `__metadata__`, which safetensors files reserve for their metadata")]
    Reserved,
    /// Two tensors have the same name.
    #[error("two tensors are named `{0}`, but names in a safetensors file must be unique")]
    Twice(String),
}

impl From<TensorNameError> for io::Error {
    fn from(error: TensorNameError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// The advice for such a name.
pub(crate) const ADVICE: &str =
    "rename the tensor in the model's files, or tell the author of the plugin that named it";

/// Checks the names of all tensors of a file.
///
/// # Errors
///
/// Returns an error if a file with these names could not be read again.
pub(crate) fn check_names<'n>(
    names: impl IntoIterator<Item = &'n str>,
) -> Result<(), TensorNameError> {
    let mut seen = HashSet::new();
    for name in names {
        if name == "__metadata__" {
            return Err(TensorNameError::Reserved);
        }
        if !seen.insert(name) {
            return Err(TensorNameError::Twice(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_name_and_duplicate_names_are_refused() {
        let twice = TensorNameError::Twice("a".to_owned());
        assert_eq!(check_names(["a", "A", "__metadata", ""]), Ok(()));
        assert_eq!(
            check_names(["a", "__metadata__"]),
            Err(TensorNameError::Reserved)
        );
        assert_eq!(check_names(["a", "b", "a"]), Err(twice));
    }
}
