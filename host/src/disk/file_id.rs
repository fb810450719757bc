//! Whether two paths are one file, whatever they are called.

use std::{fs::File, path::Path};

/// Whether two paths lead to one file or folder; links are followed. What is not there is no other's.
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

/// Whether an open file is still the one at a path.
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

/// Device and number, which no two files share.
#[cfg(unix)]
fn id(about: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (about.dev(), about.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_are_seen_through() {
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
