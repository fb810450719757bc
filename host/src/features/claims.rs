//! Divides the work between processes that fill the same cache. Each process writes the keys that it is working on
//! to its own file and keeps the file locked. The file of a process that has ended is ignored.

use super::{ClipKey, FeatureError};
use crate::disk::{file_id::is_at, whole_file};
use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// The file that is locked while claims are read and added.
const LOCK_FILE: &str = ".lock";

const ENDING: &str = ".claims";

/// The claims of this process and of others. The claims of this process end when the value is dropped or the process
/// ends.
pub struct Claims {
    folder: PathBuf,
    name: OsString,
    own: File,
    others: HashMap<OsString, Other>,
}

/// The claims of another process.
#[derive(Default)]
struct Other {
    keys: HashSet<String>,
    /// The number of bytes read from its file.
    read: u64,
}

impl Claims {
    pub(super) fn new(folder: &Path) -> Result<Self, FeatureError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| FeatureError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{count}{ENDING}", process::id()));
            let own = match File::create_new(&path) {
                // It belongs to a killed process with the same id, or to a process on another machine or in a container.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                own => own.map_err(failed(&path))?,
            };
            // Without file locks, processes ignore each other's claims, and work may be done twice.
            let _ = own.lock();
            // Before it was locked, another process may have removed it as abandoned.
            if is_at(&own, &path) {
                return Ok(Self {
                    folder: folder.to_owned(),
                    name: path.file_name().unwrap_or_default().to_owned(),
                    own,
                    others: HashMap::new(),
                });
            }
        }
    }

    /// Claims all of `keys` for this process. Claims none and returns `false` if another process has claimed one.
    ///
    /// # Errors
    ///
    /// When the claims cannot be read or written.
    pub fn claim(&mut self, keys: &[ClipKey]) -> Result<bool, FeatureError> {
        self.try_claim(keys).map_err(|source| FeatureError::Write {
            path: self.folder.clone(),
            source,
        })
    }

    fn try_claim(&mut self, keys: &[ClipKey]) -> io::Result<bool> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let lock = whole_file::no_link(&mut options).open(self.folder.join(LOCK_FILE))?;
        // Held until the end of this function.
        let _ = lock.lock();
        self.read_others()?;
        let is_claimed = |key: &ClipKey| {
            let mut others = self.others.values();
            others.any(|other| other.keys.contains(key.as_str()))
        };
        if keys.iter().any(is_claimed) {
            return Ok(false);
        }
        let lines = keys.iter().map(|key| format!("{key}\n"));
        self.own.write_all(lines.collect::<String>().as_bytes())?;
        Ok(true)
    }

    /// Reads the new claims of other processes, and drops those of processes that have ended.
    fn read_others(&mut self) -> io::Result<()> {
        let mut alive = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if name == self.name || !name.to_string_lossy().ends_with(ENDING) {
                continue;
            }
            let path = self.folder.join(&name);
            let mut file = match File::open(&path) {
                Ok(file) => file,
                // The process has just ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if file.try_lock().is_ok() {
                let _ = fs::remove_file(&path);
                continue;
            }
            let mut other = self.others.remove(&name).unwrap_or_default();
            file.seek(SeekFrom::Start(other.read))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            other.read += text.len() as u64;
            other.keys.extend(text.lines().map(str::to_owned));
            alive.insert(name, other);
        }
        self.others = alive;
        Ok(())
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        // Removed while it is still locked. A leftover file is ignored.
        let _ = fs::remove_file(self.folder.join(&self.name));
    }
}
