//! Digests of files. Each is computed once; those of large files are also stored on disk.

use super::FeatureError;
use crate::disk::{
    checksum::{ChecksumState, check_json, with_json_checksum},
    digest::Sha256Digest,
    whole_file,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The size from which digests are stored on disk. Reading a smaller file again is as fast as looking up its digest.
const REMEMBERED_BYTES: u64 = 16 << 20;

/// A file that was modified more recently than this could change again with the same timestamp.
const SETTLED: Duration = Duration::from_secs(2);

/// Digests of the contents of files. A file is not read again while its size and modification time are unchanged.
#[derive(Debug)]
pub struct Digests {
    /// The folder with the digests of large files.
    folder: PathBuf,
    known: Mutex<HashMap<PathBuf, (Stamp, Sha256Digest)>>,
}

/// The size and modification time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    /// Nanoseconds since 1970.
    changed: u64,
}

/// A digest on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    path: String,
    #[serde(flatten)]
    stamp: Stamp,
    sha256: String,
}

impl Digests {
    /// Creates digests that are stored in `folder`, which does not need to exist yet.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            known: Mutex::default(),
        }
    }

    /// Returns the SHA-256 of the contents of a file, or of the names and contents of the files in a folder.
    ///
    /// # Errors
    ///
    /// When the file or folder cannot be read.
    pub fn of(&self, path: &Path) -> Result<Sha256Digest, FeatureError> {
        let digest = match fs::metadata(path) {
            Ok(about) if about.is_dir() => self.of_folder(path),
            Ok(about) => self.of_file(path, &about),
            Err(error) => Err(error),
        };
        digest.map_err(|source| FeatureError::Digest {
            path: path.to_owned(),
            source,
        })
    }

    fn of_folder(&self, folder: &Path) -> io::Result<Sha256Digest> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let about = fs::metadata(&path)?;
            if about.is_file() {
                files.push((path, about));
            }
        }
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut all = Sha256::new();
        for (path, about) in files {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            all.update((name.len() as u64).to_le_bytes());
            all.update(name);
            all.update(self.of_file(&path, &about)?.to_string());
        }
        Ok(Sha256Digest::finish(all))
    }

    fn of_file(&self, path: &Path, about: &fs::Metadata) -> io::Result<Sha256Digest> {
        let path = path.canonicalize()?;
        let stamp = stamp(about);
        let Some(stamp) = stamp else {
            return Sha256Digest::of_file(&path);
        };
        let known = |digests: &Self| {
            let known = digests.known.lock().unwrap_or_else(PoisonError::into_inner);
            let (at, digest) = known.get(&path)?;
            (*at == stamp).then_some(*digest)
        };
        if let Some(digest) = known(self) {
            return Ok(digest);
        }
        let large = stamp.bytes >= REMEMBERED_BYTES;
        let remembered = if large {
            self.recall(&path, stamp)
        } else {
            None
        };
        let digest = match remembered {
            Some(digest) => digest,
            None => {
                let digest = Sha256Digest::of_file(&path)?;
                if large {
                    self.remember(&path, stamp, digest);
                }
                digest
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path, (stamp, digest));
        Ok(digest)
    }

    fn record(&self, path: &Path) -> PathBuf {
        let name = Sha256Digest::of_bytes(path.as_os_str().as_encoded_bytes());
        self.folder.join(format!("{name}.json"))
    }

    fn recall(&self, path: &Path, stamp: Stamp) -> Option<Sha256Digest> {
        let text = fs::read_to_string(self.record(path)).ok()?;
        if check_json(&text) == ChecksumState::Invalid {
            return None;
        }
        let record: Record = serde_json::from_str(&text).ok()?;
        let same = record.stamp == stamp && record.path == path.to_string_lossy();
        same.then(|| record.sha256.parse().ok()).flatten()
    }

    /// Stores a digest on disk. Errors are ignored: without the digest, the file is read again.
    fn remember(&self, path: &Path, stamp: Stamp, digest: Sha256Digest) {
        let record = Record {
            path: path.to_string_lossy().into_owned(),
            stamp,
            sha256: digest.to_string(),
        };
        if let Ok(text) = serde_json::to_string(&record) {
            let text = with_json_checksum(&text);
            let _ = fs::create_dir_all(&self.folder)
                .and_then(|()| whole_file::write_unswept(&self.record(path), text.as_bytes()));
        }
    }
}

/// Returns `None` if the file was modified too recently, or the file system does not support modification times.
fn stamp(about: &fs::Metadata) -> Option<Stamp> {
    let changed = about.modified().ok()?;
    let age = SystemTime::now().duration_since(changed).ok()?;
    let changed = changed.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    (age >= SETTLED).then_some(Stamp {
        bytes: about.len(),
        changed: u64::try_from(changed).ok()?,
    })
}
