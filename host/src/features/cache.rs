//! The folder of kept features.

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

/// A shard is written when so much has been put, …
const SHARD_BYTES: usize = 64 << 20;

/// … or when the first of it has waited so long: a process that is killed loses no more.
const SHARD_AGE: Duration = Duration::from_secs(30);

/// What a cache's folder holds.
const PARTS: [&str; 3] = ["shards", "digests", "claims"];

/// Features of clips, kept in a folder. Any number of threads and processes may use one folder at once.
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
    /// Names of the shards that are in the index, and of those that cannot be.
    seen: HashSet<OsString>,
    /// When the folder last changed before it was last listed.
    listed: Option<SystemTime>,
    /// Put and not yet written.
    pending: BTreeMap<String, Features>,
    pending_bytes: usize,
    /// When the first of those was put.
    pending_since: Option<Instant>,
    /// Features that are kept in another format.
    others: BTreeMap<StoreDtype, usize>,
    /// Shards without checksums.
    unchecked: usize,
    /// Shards that this process has written.
    written: u64,
    notices: Vec<String>,
}

impl FeatureCache {
    /// The cache in `folder`, which is made if it is not there. Features that are kept in another format
    /// are not used, which is noticed.
    ///
    /// # Errors
    ///
    /// When the folder holds something else, or cannot be made or listed.
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
                "{} also holds features of clips that are not used here: {}; here they are kept as {dtype}",
                folder.as_ref().display(),
                others.join(", ")
            );
            state.notices.push(notice);
        }
        drop(state);
        Ok(cache)
    }

    /// The cache in `folder`, in the format that most of its features have; f16 if there are none. That it
    /// was not there is noticed: the name may be mistyped.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_as_kept(folder: impl AsRef<Path>) -> Result<Self, FeatureError> {
        let folder = folder.as_ref();
        let is_new = !folder.exists();
        let probe = Self::listed(folder, StoreDtype::default())?;
        let kept = {
            let state = probe.state();
            let default = (StoreDtype::default(), state.index.len());
            let others = state.others.iter().map(|(dtype, count)| (*dtype, *count));
            // Of equally many those of the default.
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
                "the feature cache {} was not there: it is made, and filled as clips are seen",
                folder.display()
            ));
        }
        Ok(cache)
    }

    /// That a cache could be opened in `folder`. Nothing is made.
    ///
    /// # Errors
    ///
    /// When the folder holds something else.
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

    /// In which numbers features are kept.
    pub fn dtype(&self) -> StoreDtype {
        self.dtype
    }

    /// Digests of the files that features depend on.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// What this process encodes for the cache, so that others do not.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub fn claims(&self) -> Result<Claims, FeatureError> {
        Claims::new(&self.claims)
    }

    /// How many features there are.
    pub fn len(&self) -> usize {
        let state = self.state();
        state.index.len() + state.pending.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are features of a clip; other processes' are found too.
    pub fn contains(&self, key: &ClipKey) -> bool {
        let mut state = self.state();
        state.pending.contains_key(key.as_str()) || self.find(&mut state, key).is_some()
    }

    /// The features of a clip: `[tokens, width]` in f32, as [`Self::put`] returned them. Other processes'
    /// are found too. None if there are none, or if they can no longer be read, which is noticed.
    pub fn get(&self, key: &ClipKey) -> Option<Tensor> {
        let mut state = self.state();
        if let Some(features) = state.pending.get(key.as_str()) {
            return features.tensor(self.dtype).ok();
        }
        let (path, location) = self.find(&mut state, key)?;
        // Other threads may go on while the disk is read.
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

    /// Keeps the features of a clip, `[tokens, width]` in f32. Returns them as [`Self::get`] will: rounded
    /// to the cache's format. Whoever goes on with these computes the same whether the cache was full or
    /// empty.
    ///
    /// They are on the disk after [`Self::flush`], or on their own when enough have come together.
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
        // Halfway to the next number that there would be is rounded to infinity.
        let bytes = self.dtype.pack(&values);
        let features = Features { shape, bytes };
        let rounded = features.tensor(self.dtype)?;
        let sum = rounded.abs()?.max_all()?.to_scalar::<f32>()?;
        if sum.is_infinite() {
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

    /// Writes everything that was put.
    ///
    /// # Errors
    ///
    /// When it cannot be written; it stays in memory and can still be had.
    pub fn flush(&self) -> Result<(), FeatureError> {
        self.write(&mut self.state())
    }

    /// What a person should know, since the last time this was asked: files that were left aside.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notices)
    }

    /// Where the features of a clip were written.
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
        // Two processes of two machines may have the same number, but hardly at the same nanosecond.
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

    /// Takes in the shards that are new, if there can be any.
    fn list(&self, state: &mut State) -> io::Result<()> {
        // Asked before the list is read: what changes meanwhile is found the next time.
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
                    "{} was written by an earlier version, without checksums: damage to it cannot be \
                     noticed; encode again into a new folder to have them",
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
            "{} is left aside, and what it held is computed again: {why}",
            path.display()
        ));
    }
}

impl Drop for FeatureCache {
    fn drop(&mut self) {
        // Whoever cares whether it succeeds has called `flush`.
        let _ = self.flush();
    }
}

/// That a folder is a cache, or empty, or not there.
fn check_is_cache(folder: &Path, shards: &Path) -> Result<(), FeatureError> {
    if shards.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !PARTS.contains(&name.as_str()) {
            return Err(FeatureError::NotACache {
                path: folder.to_owned(),
                stranger: name,
            });
        }
    }
    Ok(())
}
