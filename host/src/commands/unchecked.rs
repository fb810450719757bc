//! What is said of files that could not be checked.

/// A line with the files that are not on this machine, if there are any.
pub fn text(files: &[String]) -> Option<String> {
    (!files.is_empty()).then(|| {
        format!(
            "unchecked   what is in files that are not on this machine: {}",
            files.join(", ")
        )
    })
}
