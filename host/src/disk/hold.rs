//! One process at a time: a lock file that says who holds it. The lock is on the open file, so that it ends
//! with its process, however that ends; the file may stay behind and means nothing then.

use crate::disk::{file_id::is_at, whole_file};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
};
use thiserror::Error;

/// The name of the lock file in a folder that one process writes at a time.
pub(crate) const LOCK: &str = ".lock";

/// Bytes of a lock file that are read to learn who holds it.
const MAX_HOLDER: u64 = 200;

/// Something that only one process at a time may write is not available.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Somebody else writes it.
    #[error(
        "{} is in use by {holder}\n  do: wait until it has finished, or stop it, or name another place",
        .path.display()
    )]
    Taken {
        /// What is held.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The lock file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), whole_file::advice(.source))]
    Write {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What this process holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    lock: PathBuf,
    /// Its lock is the hold.
    _file: File,
}

impl Hold {
    /// Holds a folder, for `command`.
    pub(crate) fn folder(folder: &Path, command: &str) -> Result<Self, HoldError> {
        Self::take(&folder.join(LOCK), folder, command)
    }

    /// Holds something that is not there yet, or is replaced as a whole, by a lock file beside it.
    pub(crate) fn beside(path: &Path, command: &str) -> Result<Self, HoldError> {
        Self::take(&lock_beside(path), path, command)
    }

    /// Whether nobody holds what [`Self::beside`] would.
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

    /// That nobody holds a folder.
    pub(crate) fn check_folder(folder: &Path) -> Result<(), HoldError> {
        let Ok(mut file) = File::open(folder.join(LOCK)) else {
            return Ok(());
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(HoldError::Taken {
                path: folder.to_owned(),
                holder: holder(&mut file),
            }),
            _ => Ok(()),
        }
    }

    fn take(lock: &Path, what: &Path, command: &str) -> Result<Self, HoldError> {
        let failed = |source| HoldError::Write {
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
                // Where files cannot be locked, nobody holds anything.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(HoldError::Taken {
                        path: what.to_owned(),
                        holder: holder(&mut file),
                    });
                }
            }
            // Its last holder may have removed it in the meantime.
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

impl Drop for Hold {
    fn drop(&mut self) {
        // While it is still locked: nobody else's is removed.
        let _ = fs::remove_file(&self.lock);
    }
}

fn lock_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(format!(".{}.lock", whole_file::stem(name)))
}

/// Who wrote into a lock file.
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
    fn one_at_a_time_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let hold = Hold::folder(folder.path(), "train").unwrap();
        let error = Hold::folder(folder.path(), "train")
            .unwrap_err()
            .to_string();
        let holder = format!("in use by process {} (train)", process::id());
        assert!(error.contains(&holder), "{error}");
        drop(hold);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // The lock file of a killed process does not stand in the way.
        fs::write(folder.path().join(LOCK), "process 1 (train)").unwrap();
        drop(Hold::folder(folder.path(), "train").unwrap());
    }

    #[test]
    fn of_many_threads_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, inside) = (folder.path().join("out"), std::sync::Mutex::new(()));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(_hold) = Hold::beside(&path, "convert") {
                            let _alone = inside.try_lock().unwrap();
                            assert!(!Hold::is_free(&path).unwrap());
                        }
                    }
                });
            }
        });
        assert!(Hold::is_free(&path).unwrap());
    }
}
