//! Identifies files, whatever their names are.

use std::{fs::File, io, path::Path};

/// A file on this machine. Links to one file have the same id. Other systems than Unix identify a file by its full path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FileId(
    #[cfg(unix)] (u64, u64),
    #[cfg(not(unix))] std::path::PathBuf,
);

impl FileId {
    /// Returns the id of the file at a path. Links are followed.
    ///
    /// # Errors
    ///
    /// Returns an error if the path does not exist.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        let id = id(&path.metadata()?);
        #[cfg(not(unix))]
        let id = path.canonicalize()?;
        Ok(Self(id))
    }
}

/// Returns whether two paths lead to the same file or folder. Links are followed. The result is `false` if a
/// path does not exist.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((FileId::of(a), FileId::of(b)), (Ok(a), Ok(b)) if a == b)
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
