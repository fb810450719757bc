//! The feature cache.

use super::{
    Claims, ClipKey, Digests, FeatureError, StoreDtype,
    shard::{self, Features, Location},
};
use crate::disk::whole_file;
use candle_core::Tensor;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A shard is written when the pending features reach this size.
const SHARD_BYTES: usize = 64 << 20;

/// A shard is also written when the oldest pending features reach this age. A killed process loses no more.
const SHARD_AGE: Duration = Duration::from_secs(30);

/// The folders in the folder of a cache.
const PARTS: [&str; 3] = ["shards", "digests", "claims"];

/// A cache of the features of clips, in a folder. Any number of threads and processes may share a folder.
pub struct FeatureCache {
    shards: PathBuf,
    claims: PathBuf,
    dtype: StoreDtype,
    digests: Digests,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    index: HashMap<String, (Arc<Path>, Location)>,
    /// The names of the shards that are in the index, and of those that cannot be read.
    seen: HashSet<OsString>,
    /// The modification time of the folder when it was last listed.
    listed: Option<SystemTime>,
    /// Features that have not been written yet.
    pending: BTreeMap<String, Features>,
    pending_bytes: usize,
    /// When the oldest pending features were added.
    pending_since: Option<Instant>,
    /// The number of features stored in each other format.
    others: BTreeMap<StoreDtype, usize>,
    /// The number of shards without checksums.
    unchecked: usize,
    /// The number of shards that this process has written.
    written: u64,
    notices: Vec<String>,
}

impl FeatureCache {
    /// Opens the cache in `folder`, which is created if it does not exist. Features stored in another format are not
    /// used; a notice reports them.
    ///
    /// # Errors
    ///
    /// When the folder contains other files, or cannot be created or listed.
    pub fn open(folder: impl AsRef<Path>, dtype: StoreDtype) -> Result<Self, FeatureError> {
        let cache = Self::listed(folder.as_ref(), dtype)?;
        let mut state = cache.state();
        let others: Vec<String> = state
            .others
            .iter()
            .map(|(dtype, count)| format!("{count} as {dtype}"))
            .collect();
        if !others.is_empty() {
            let notice = format!(
                "{} also contains features in other formats, which are not used: {}; this run uses {dtype}",
                folder.as_ref().display(),
                others.join(", ")
            );
            state.notices.push(notice);
        }
        drop(state);
        Ok(cache)
    }

    /// Opens the cache in `folder`, in the format of most of its features, or in f16 if it has none. If the folder
    /// does not exist, a notice reports it: the path may be mistyped.
    ///
    /// # Errors
    ///
    /// Like [`Self::open`].
    pub fn open_as_kept(folder: impl AsRef<Path>) -> Result<Self, FeatureError> {
        let folder = folder.as_ref();
        let is_new = !folder.exists();
        let probe = Self::listed(folder, StoreDtype::default())?;
        let kept = {
            let state = probe.state();
            let default = (StoreDtype::default(), state.index.len());
            let others = state.others.iter().map(|(dtype, count)| (*dtype, *count));
            // In a tie, the default format wins.
            let most = others.chain([default]).max_by_key(|(_, count)| *count);
            most.unwrap_or(default).0
        };
        if kept != StoreDtype::default() {
            return Self::open(folder, kept);
        }
        drop(probe);
        let cache = Self::open(folder, kept)?;
        if is_new {
            cache.state().notices.push(format!(
                "the feature cache {} did not exist: it was created, and is filled as clips are encoded",
                folder.display()
            ));
        }
        Ok(cache)
    }

    /// Checks that a cache can be opened in `folder`, without creating anything.
    ///
    /// # Errors
    ///
    /// When the folder contains other files.
    pub fn check(folder: impl AsRef<Path>) -> Result<(), FeatureError> {
        let folder = folder.as_ref();
        check_is_cache(folder, &folder.join(PARTS[0]))
    }

    fn listed(folder: &Path, dtype: StoreDtype) -> Result<Self, FeatureError> {
        let shards = folder.join(PARTS[0]);
        check_is_cache(folder, &shards)?;
        fs::create_dir_all(&shards).map_err(|source| FeatureError::Folder {
            path: shards.clone(),
            source,
        })?;
        for part in [PARTS[0], PARTS[1]] {
            whole_file::sweep_all(&folder.join(part));
        }
        let cache = Self {
            digests: Digests::new(folder.join(PARTS[1])),
            claims: folder.join(PARTS[2]),
            shards,
            dtype,
            state: Mutex::default(),
        };
        cache.list(&mut cache.state()).map_err(|source| {
            let path = cache.shards.clone();
            FeatureError::Folder { path, source }
        })?;
        Ok(cache)
    }

    /// Returns the number format of the features.
    pub fn dtype(&self) -> StoreDtype {
        self.dtype
    }

    /// Returns the digests of the files that features depend on.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Creates the claims of this process, which keep other processes from encoding the same clips.
    ///
    /// # Errors
    ///
    /// When the file of the claims cannot be written.
    pub fn claims(&self) -> Result<Claims, FeatureError> {
        Claims::new(&self.claims)
    }

    /// Returns the number of features.
    pub fn len(&self) -> usize {
        let state = self.state();
        state.index.len() + state.pending.len()
    }

    /// Returns whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the cache contains the features of a clip, including those written by other processes.
    pub fn contains(&self, key: &ClipKey) -> bool {
        let mut state = self.state();
        state.pending.contains_key(key.as_str()) || self.find(&mut state, key).is_some()
    }

    /// Returns the features of a clip, `[tokens, width]` in f32, as [`Self::put`] returned them. Finds features written
    /// by other processes too. Returns `None` if there are none, or if they cannot be read, which a notice reports.
    pub fn get(&self, key: &ClipKey) -> Option<Tensor> {
        let mut state = self.state();
        if let Some(features) = state.pending.get(key.as_str()) {
            return features.tensor(self.dtype).ok();
        }
        let (path, location) = self.find(&mut state, key)?;
        // Other threads can continue while the disk is read.
        drop(state);
        match shard::read(&path, key.as_str(), &location) {
            Ok(features) => features.tensor(self.dtype).ok(),
            Err(error) => {
                let mut state = self.state();
                state.index.retain(|_, (other, _)| *other != path);
                state.notice(&path, &error);
                None
            }
        }
    }

    /// Stores the features of a clip, `[tokens, width]` in f32. Returns them as [`Self::get`] does, rounded to the
    /// format of the cache. With these, a computation gives the same result whether the cache was full or empty.
    ///
    /// The features are on disk after [`Self::flush`], or when enough of them are pending.
    ///
    /// # Errors
    ///
    /// When a value is too large for the format, or a shard cannot be written.
    pub fn put(&self, key: &ClipKey, features: &Tensor) -> Result<Tensor, FeatureError> {
        let shape = features.dims();
        let shape = <[usize; 2]>::try_from(shape).map_err(|_| FeatureError::Shape {
            key: key.to_string(),
            shape: shape.to_vec(),
        })?;
        let values = features.flatten_all()?.to_vec1::<f32>()?;
        // Values slightly above the largest number round down to it; larger values round to infinity.
        let bytes = self.dtype.pack(&values);
        let features = Features { shape, bytes };
        let rounded = features.tensor(self.dtype)?;
        let largest = rounded.abs()?.max_all()?.to_scalar::<f32>()?;
        if largest.is_infinite() {
            let value = values
                .into_iter()
                .max_by(|a, b| a.abs().total_cmp(&b.abs()));
            return Err(FeatureError::OutOfRange {
                key: key.to_string(),
                value: value.unwrap_or_default(),
                dtype: self.dtype,
            });
        }
        let mut state = self.state();
        if state.index.contains_key(key.as_str()) {
            return Ok(rounded);
        }
        state.pending_bytes += features.bytes.len();
        state.pending_since.get_or_insert_with(Instant::now);
        state.pending.insert(key.as_str().to_owned(), features);
        let old = state
            .pending_since
            .is_some_and(|since| since.elapsed() > SHARD_AGE);
        if old || state.pending_bytes >= SHARD_BYTES {
            self.write(&mut state)?;
        }
        Ok(rounded)
    }

    /// Writes all pending features.
    ///
    /// # Errors
    ///
    /// When they cannot be written. They stay in memory and can still be read.
    pub fn flush(&self) -> Result<(), FeatureError> {
        self.write(&mut self.state())
    }

    /// Returns the notices for the user since the last call, such as skipped files.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notices)
    }

    /// Returns the location of the features of a clip.
    fn find(&self, state: &mut State, key: &ClipKey) -> Option<(Arc<Path>, Location)> {
        let key = key.as_str();
        if !state.index.contains_key(key)
            && let Err(error) = self.list(state)
        {
            state.notice(&self.shards, &error);
        }
        state.index.get(key).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State) -> Result<(), FeatureError> {
        if state.pending.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Processes on two machines can have the same id, but hardly write at the same nanosecond.
        let name = format!(
            "{:x}-{}-{}.safetensors",
            now.as_nanos(),
            process::id(),
            state.written
        );
        let path = self.shards.join(name);
        let failed = |source| FeatureError::Write {
            path: path.clone(),
            source,
        };
        shard::write(&path, &state.pending, self.dtype).map_err(failed)?;
        state.written += 1;
        state.add(&path, self.dtype).map_err(failed)?;
        state.pending.clear();
        state.pending_bytes = 0;
        state.pending_since = None;
        Ok(())
    }

    /// Adds new shards to the index, if the folder has changed.
    fn list(&self, state: &mut State) -> io::Result<()> {
        // Read before the folder is listed: later changes are found the next time.
        let changed = fs::metadata(&self.shards)?.modified().ok();
        if changed.is_some() && changed == state.listed {
            return Ok(());
        }
        for entry in fs::read_dir(&self.shards)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "safetensors") {
                if state.seen.contains(&entry.file_name()) {
                    continue;
                }
                if let Err(error) = state.add(&path, self.dtype) {
                    state.notice(&path, &error);
                }
            }
        }
        state.listed = changed;
        Ok(())
    }
}

impl State {
    fn add(&mut self, path: &Path, dtype: StoreDtype) -> io::Result<()> {
        self.seen
            .insert(path.file_name().unwrap_or_default().to_owned());
        let shared: Arc<Path> = path.into();
        let index = shard::index(path)?;
        if !index.has_checksums && !index.locations.is_empty() {
            self.unchecked += 1;
            if self.unchecked == 1 {
                self.notices.push(format!(
                    "{} was written by an earlier version without checksums, so damage cannot be detected; encode \
                     again into a new folder to add checksums",
                    path.display()
                ));
            }
        }
        for (key, location) in index.locations {
            if location.dtype == dtype {
                self.index.insert(key, (Arc::clone(&shared), location));
            } else {
                *self.others.entry(location.dtype).or_default() += 1;
            }
        }
        Ok(())
    }

    fn notice(&mut self, path: &Path, why: &io::Error) {
        self.notices.push(format!(
            "{} is skipped, and its features are computed again: {why}",
            path.display()
        ));
    }
}

impl Drop for FeatureCache {
    fn drop(&mut self) {
        // Callers that need to know about errors call `flush`.
        let _ = self.flush();
    }
}

/// Checks that a folder is a cache, is empty, or does not exist.
fn check_is_cache(folder: &Path, shards: &Path) -> Result<(), FeatureError> {
    if shards.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !PARTS.contains(&name.as_str()) {
            return Err(FeatureError::NotACache {
                path: folder.to_owned(),
                foreign: name,
            });
        }
    }
    Ok(())
}
