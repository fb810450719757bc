//! Files that are there whole or not at all: written beside their place, then renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// How the name of a file that is being written ends.
pub(crate) const PARTIAL: &str = ".partial";

/// Writes `bytes` to `path`, in place of what is there. They are on the disk before the name is, so that
/// not even a power failure leaves half a file under it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = partial(path);
    let written = File::create_new(&partial)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The error that mattered is told; a partial file that stays is a trifle.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// A name beside `path` that no other process and no other thread uses.
pub(crate) fn partial(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{count}{PARTIAL}", process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("none/a.json"), b"x").is_err());
    }
}
