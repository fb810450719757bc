//! The text about files that could not be checked.

/// Returns a line with the files that are not on this machine, if there are any.
pub fn text(files: &[String]) -> Option<String> {
    (!files.is_empty()).then(|| {
        format!(
            "unchecked   the contents of files that are not on this machine: {}",
            files.join(", ")
        )
    })
}
