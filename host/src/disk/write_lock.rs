//! Lock files: only one process at a time writes a folder or file. The lock file contains the name of the
//! process that holds it. The lock is on the open file, so it ends when the process ends in any way. A lock
//! file that such a process leaves behind has no effect.

use crate::disk::{file_id::is_at, whole_file};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
};
use thiserror::Error;

/// The name of the lock file in a folder.
pub(crate) const LOCK: &str = ".lock";

/// The maximum number of bytes that are read from a lock file to find its holder.
const MAX_HOLDER: u64 = 200;

/// A folder or file could not be locked for writing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process is writing it.
    #[error(
        "{} is in use by {holder}\n  do: wait until it has finished, or stop it, or choose another path",
        .path.display()
    )]
    Taken {
        /// The folder or file.
        path: PathBuf,
        /// The process that holds the lock.
        holder: String,
    },
    /// The lock file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), whole_file::advice(.source))]
    Write {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A lock on a folder or file. It is released when it is dropped.
#[derive(Debug)]
pub(crate) struct WriteLock {
    lock: PathBuf,
    /// The open lock file, which keeps the lock.
    _file: File,
}

impl WriteLock {
    /// Locks a folder for `command`.
    pub(crate) fn folder(folder: &Path, command: &str) -> Result<Self, LockError> {
        Self::take(&folder.join(LOCK), folder, command)
    }

    /// Locks a file or folder that does not exist yet or is replaced as a whole. The lock file is next to it.
    pub(crate) fn beside(path: &Path, command: &str) -> Result<Self, LockError> {
        Self::take(&lock_beside(path), path, command)
    }

    /// Returns whether [`Self::beside`] would succeed now.
    pub(crate) fn is_free(path: &Path) -> io::Result<bool> {
        match File::open(lock_beside(path)) {
            Ok(file) => match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Ok(false),
                _ => Ok(true),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Checks that no process holds the lock of a folder.
    pub(crate) fn check_folder(folder: &Path) -> Result<(), LockError> {
        let Ok(mut file) = File::open(folder.join(LOCK)) else {
            return Ok(());
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(LockError::Taken {
                path: folder.to_owned(),
                holder: holder(&mut file),
            }),
            _ => Ok(()),
        }
    }

    fn take(lock: &Path, what: &Path, command: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Write {
            path: lock.to_owned(),
            source,
        };
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = whole_file::no_link(&mut options)
                .open(lock)
                .map_err(failed)?;
            match file.try_lock() {
                // On file systems without locks, every lock succeeds.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Taken {
                        path: what.to_owned(),
                        holder: holder(&mut file),
                    });
                }
            }
            // The previous holder may have removed the file in the meantime.
            if !is_at(&file, lock) {
                continue;
            }
            file.set_len(0)
                .and_then(|()| write!(file, "process {} ({command})", process::id()))
                .map_err(failed)?;
            return Ok(Self {
                lock: lock.to_owned(),
                _file: file,
            });
        }
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        // The file is still locked, so it cannot be the lock file of another process.
        let _ = fs::remove_file(&self.lock);
    }
}

fn lock_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(format!(".{}.lock", whole_file::stem(name)))
}

/// Returns the process that is named in a lock file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_HOLDER).read_to_string(&mut text);
    match read {
        Ok(_) if text.starts_with("process ") => text,
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_the_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let lock = WriteLock::folder(folder.path(), "train").unwrap();
        let error = WriteLock::folder(folder.path(), "train")
            .unwrap_err()
            .to_string();
        let holder = format!("in use by process {} (train)", process::id());
        assert!(error.contains(&holder), "{error}");
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // The lock file of a killed process has no effect.
        fs::write(folder.path().join(LOCK), "process 1 (train)").unwrap();
        drop(WriteLock::folder(folder.path(), "train").unwrap());
    }

    #[test]
    fn only_one_thread_at_a_time_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let (path, inside) = (folder.path().join("out"), std::sync::Mutex::new(()));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(_lock) = WriteLock::beside(&path, "convert") {
                            let _alone = inside.try_lock().unwrap();
                            assert!(!WriteLock::is_free(&path).unwrap());
                        }
                    }
                });
            }
        });
        assert!(WriteLock::is_free(&path).unwrap());
    }
}
