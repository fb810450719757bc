//! Files that are there whole or not at all: written beside their place, then renamed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// How the name of a file that is being written ends.
pub(crate) const PARTIAL: &str = ".partial";

/// Writes `bytes` to `path`, in place of what is there. They are on the disk before the name is, so that
/// not even a power failure leaves half a file under it. What processes that were killed have left beside it
/// is taken away.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    sweep(path);
    let (partial, mut file) = begin(path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The error that mattered is told; a partial file that stays is a trifle.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// A new partial file, locked as long as somebody writes it.
fn begin(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let partial = partial(path);
        let file = File::create_new(&partial)?;
        // Where files cannot be locked, none is swept either.
        let _ = file.lock();
        // Before it was locked, it looked abandoned.
        if partial.try_exists()? {
            return Ok((partial, file));
        }
    }
}

/// Removes partial files of `path` that nobody writes any more: a lock ends with its process. What cannot be
/// removed is no reason not to write.
fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
    else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let prefix = format!("{name}.");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let other = other.to_str().and_then(|other| other.strip_prefix(&prefix));
        if !other.is_some_and(is_partial) {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether this is what [`partial`] puts behind a name and a dot.
fn is_partial(ending: &str) -> bool {
    let numbers = ending.strip_suffix(PARTIAL);
    let numbers = numbers.and_then(|numbers| numbers.split_once('-'));
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    numbers.is_some_and(|(process, count)| is_number(process) && is_number(count))
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

    #[test]
    fn what_a_killed_process_left_is_taken_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.json.12-0.partial", "a.json.13-7.partial"] {
            fs::write(at(name), "half").unwrap();
        }
        let others = [
            "a.json",
            "a.json.12-x.partial",
            "a.json.bak",
            "b.json.12-0.partial",
        ];
        for name in others {
            fs::write(at(name), "whole").unwrap();
        }
        let writing = File::open(at("a.json.13-7.partial")).unwrap();
        writing.lock().unwrap();
        write(&at("a.json"), b"new").unwrap();
        assert!(!at("a.json.12-0.partial").exists());
        for name in others.iter().chain(&["a.json.13-7.partial"]) {
            assert!(at(name).exists(), "{name}");
        }
        drop(writing);
        write(&at("a.json"), b"newer").unwrap();
        assert!(!at("a.json.13-7.partial").exists());
    }

    #[test]
    fn many_writers_of_one_file_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        write(path, &[writer; 1000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 1000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
