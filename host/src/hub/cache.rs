//! The hub's cache on this machine. It has the layout that all of the hub's tools share:
//!
//! ```text
//! models--owner--name/
//!     blobs/<etag>                      the contents of a file, stored once
//!     refs/<revision>                   the commit that a branch or tag was at
//!     snapshots/<commit>/<file>         a link to the blob
//! .locks/models--owner--name/<etag>.lock
//! ```

use super::{
    error::HubError,
    file::{Entry, HubFile},
};
use hf_hub::{CacheRepo, Repo, RepoType};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The interval at which a process checks whether another one has finished.
const POLL: Duration = Duration::from_millis(200);

/// The part of the cache that belongs to one file.
pub(super) struct Cache<'c> {
    folder: &'c Path,
    file: &'c HubFile,
    repo: CacheRepo,
    /// `models--owner--name`
    name: String,
}

impl<'c> Cache<'c> {
    pub(super) fn new(folder: &'c Path, file: &'c HubFile) -> Self {
        let repo = Repo::with_revision(
            file.repo.clone(),
            RepoType::Model,
            file.revision().to_owned(),
        );
        Self {
            folder,
            file,
            name: repo.folder_name(),
            repo: hf_hub::Cache::new(folder.to_owned()).repo(repo),
        }
    }

    /// Returns the path of the file if it is in the cache.
    pub(super) fn find(&self) -> Option<PathBuf> {
        // A revision that is a commit has no entry in `refs`.
        let at_commit = self.pointer(self.file.revision());
        if at_commit.is_file() {
            return Some(at_commit);
        }
        self.repo.get(&self.file.file).filter(|path| path.is_file())
    }

    /// Returns the path of the file in the snapshot of a commit.
    fn pointer(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit).join(&self.file.file)
    }

    fn repo_folder(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Returns the path of a blob.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repo_folder().join("blobs").join(etag)
    }

    /// Returns the path that a blob has while it is downloaded.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.repo_folder()
            .join("blobs")
            .join(format!("{etag}.incomplete"))
    }

    /// Waits until no other process downloads this blob. Calls `waiting` repeatedly in the meantime.
    pub(super) fn lock(&self, etag: &str, waiting: &mut dyn FnMut()) -> Result<File, HubError> {
        let folder = self.folder.join(".locks").join(&self.name);
        make_folder(&folder)?;
        let path = folder.join(format!("{etag}.lock"));
        let failed = |source| HubError::write(&path, source);
        let lock = File::create(&path).map_err(failed)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    thread::sleep(POLL);
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Creates the folder of the blobs.
    pub(super) fn make_blobs(&self) -> Result<(), HubError> {
        make_folder(&self.repo_folder().join("blobs"))
    }

    /// Links a downloaded blob to the name of the file.
    pub(super) fn publish(&self, entry: &Entry) -> Result<PathBuf, HubError> {
        let pointer = self.pointer(&entry.commit);
        if let Some(folder) = pointer.parent() {
            make_folder(folder)?;
        }
        let up = "../".repeat(2 + self.file.file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{}", entry.etag));
        link(&target, &self.blob(&entry.etag), &pointer)
            .map_err(|source| HubError::write(&pointer, source))?;
        if self.file.revision() != entry.commit {
            self.remember_revision(&entry.commit)?;
        }
        Ok(pointer)
    }

    /// Records the commit of the revision. The file is replaced atomically.
    fn remember_revision(&self, commit: &str) -> Result<(), HubError> {
        let path = self.repo_folder().join("refs").join(self.file.revision());
        if fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let new = self.repo_folder().join(format!(
            ".ref-{}-{:?}",
            std::process::id(),
            thread::current().id()
        ));
        fs::write(&new, commit)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| HubError::write(&path, source))
    }
}

fn make_folder(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(|source| HubError::write(folder, source))
}

/// Links `pointer` to `blob`. `target` is the path of the blob relative to the pointer. Another process may
/// create the same link at the same time.
#[cfg(unix)]
fn link(target: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    loop {
        match std::os::unix::fs::symlink(target, pointer) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if pointer.is_file() {
                    return Ok(());
                }
                // The link is dangling: its blob was removed.
                match fs::remove_file(pointer) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            result => return result,
        }
    }
}

/// Copies the blob, because links need special rights on other systems. The hub's tools copy there too.
#[cfg(not(unix))]
fn link(_target: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::copy(blob, pointer).map(|_| ())
}

/// Checks a name from the hub that becomes a part of a path.
///
/// # Errors
///
/// Returns the reason why the name cannot be used.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fine = (1..=128).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.');
    if fine {
        return Ok(());
    }
    Err(format!(
        "its {what} cannot be used as a file name: {}",
        crate::messages::quoted(name)
    ))
}
