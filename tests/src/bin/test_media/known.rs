//! The files in which the host is known to show other frames than the `ffmpeg` command, and why.

/// Why, and in which files.
const KNOWN: &[(&str, &[&str])] = &[];

/// Why the file differs, if it is known to.
pub fn reason(name: &str) -> Option<&'static str> {
    let mut known = KNOWN.iter();
    known
        .find(|(_, files)| files.contains(&name))
        .map(|(reason, _)| *reason)
}
