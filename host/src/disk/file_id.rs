//! Checks whether two paths lead to the same file.

use std::{fs::File, path::Path};

/// Returns whether two paths lead to the same file or folder. Links are followed. The result is `false` if a
/// path does not exist.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let same = match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => id(&a) == id(&b),
        _ => false,
    };
    #[cfg(not(unix))]
    let same = matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    same
}

/// Returns whether an open file is still the one at a path.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    let same = match (file.metadata(), path.symlink_metadata()) {
        (Ok(file), Ok(path)) => id(&file) == id(&path),
        _ => false,
    };
    #[cfg(not(unix))]
    let same = file.metadata().is_ok() && path.exists();
    same
}

/// Returns the device and the inode, which identify a file.
#[cfg(unix)]
fn id(metadata: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_lead_to_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "").unwrap();
        fs::write(at("b"), "").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("a"), at("soft")).unwrap();
        for (other, same) in [("a", true), ("hard", true), ("soft", true), ("b", false)] {
            assert_eq!(same_file(&at("a"), &at(other)), same, "{other}");
        }
        assert!(!same_file(&at("gone"), &at("gone")));
        let file = File::open(at("a")).unwrap();
        assert!(is_at(&file, &at("hard")) && !is_at(&file, &at("soft")));
    }
}
