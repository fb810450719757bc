//! From the sources that a registry names to files on this machine.
//!
//! The hub is asked for everything that is missing before anything is downloaded: that a repository is
//! gated must not be noticed an hour later.

use crate::{
    Error, Observer, Stage,
    hub::{Hub, HubError, HubFile, Remote, Settings},
    registry::{Registry, SourceError, WeightSource, verify},
};
use merv_checkpoint::ShardIndex;
use merv_plugin_api::ModelSource;
use std::{
    collections::HashSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Bytes of a shard index that are read: a longer one ends in its middle, which no index does.
const MAX_INDEX: u64 = 1 << 26;

/// Finds and fetches the files of one registry.
pub(crate) struct Files {
    hub: Hub,
    /// What `checkpoint = true` means; nothing while the mixer has not been trained.
    checkpoint: Option<WeightSource>,
    /// What was taken of sources that name several files of the hub.
    chosen: Vec<(WeightSource, WeightSource)>,
    /// What the hub has and this machine has not.
    wanted: Vec<(HubFile, Remote)>,
    /// Files whose digests were right: one may serve several parts, and some take a minute to read.
    verified: Mutex<HashSet<PathBuf>>,
}

impl Files {
    /// Looks at nothing yet.
    pub(crate) fn new(registry: &Registry, settings: &Settings) -> Self {
        Self {
            hub: Hub::new(settings.clone()),
            checkpoint: registry.mixer.weights.trained().cloned(),
            chosen: Vec::new(),
            wanted: Vec::new(),
            verified: Mutex::default(),
        }
    }

    /// The paths of a source, if all of it is on this machine: one, or the shards of an index, in order.
    /// Digests are not checked.
    ///
    /// # Errors
    ///
    /// When a shard index cannot be used.
    pub(crate) fn present(&self, source: &WeightSource) -> Result<Option<Vec<PathBuf>>, Error> {
        let Some(parts) = self.parts(source)? else {
            return Ok(None);
        };
        Ok(parts.iter().map(|part| self.find(part)).collect())
    }

    /// The names of a registry's sources that are not on this machine.
    ///
    /// # Errors
    ///
    /// When a shard index cannot be used.
    pub(crate) fn absent(&self, registry: &Registry) -> Result<Vec<String>, Error> {
        let mut absent = Vec::new();
        for source in registry.sources() {
            let name = source.to_string();
            if self.present(source)?.is_none() && !absent.contains(&name) {
                absent.push(name);
            }
        }
        Ok(absent)
    }

    /// The paths of a source, all of which has to be on this machine by now. A digest that the registry
    /// states is checked.
    ///
    /// # Errors
    ///
    /// When a file is missing, is not the one that the registry names, or is an index that cannot be
    /// used.
    pub(crate) fn paths(&self, source: &WeightSource) -> Result<Vec<PathBuf>, Error> {
        let source = &self.meant(source);
        let here = |source: &WeightSource| {
            self.find(source)
                .ok_or_else(|| self.missing(source, "this command downloads nothing"))
        };
        let path = here(source)?;
        if let Some(digest) = source.sha256() {
            let known = |set: &Mutex<HashSet<PathBuf>>| {
                set.lock().is_ok_and(|verified| verified.contains(&path))
            };
            if !known(&self.verified) {
                verify(&path, digest)?;
                if let Ok(mut verified) = self.verified.lock() {
                    verified.insert(path);
                }
            }
        }
        let parts = self.parts(source)?.unwrap_or_default();
        Error::collect(parts.iter().map(here))
    }

    /// The path of a source that is one file; as [`Self::paths`].
    ///
    /// # Errors
    ///
    /// As [`Self::paths`], and when it is several files.
    pub(crate) fn path(&self, source: &WeightSource) -> Result<PathBuf, Error> {
        let mut paths = self.paths(source)?;
        match (paths.pop(), paths.len()) {
            (Some(path), 0) => Ok(path),
            _ => Err(SourceError::Sharded(self.written(source).to_string()).into()),
        }
    }

    /// Asks the hub for everything of `sources` that is not on this machine. Nothing but shard indexes is
    /// downloaded.
    ///
    /// # Errors
    ///
    /// Everything that cannot be had, together.
    pub(crate) fn locate<'s>(
        &mut self,
        sources: impl IntoIterator<Item = &'s WeightSource>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let mut errors = Vec::new();
        let mut different: Vec<WeightSource> = Vec::new();
        for source in sources.into_iter().map(|source| self.written(source)) {
            if !different.contains(source) {
                different.push(source.clone());
            }
        }
        for source in &different {
            let located = self
                .choose(source)
                .and_then(|()| self.fetch_index(source, observer))
                .and_then(|()| self.locate_parts(source));
            if let Err(error) = located {
                let last = stops_all(&error);
                errors.push(error);
                if last {
                    break;
                }
            }
        }
        Error::all(errors)
    }

    /// Settles which file is taken of a source that names several: the first that is on this machine, else the
    /// first that the hub has.
    fn choose(&mut self, source: &WeightSource) -> Result<(), Error> {
        let source = self.written(source).clone();
        let known = self.chosen.iter().any(|(other, _)| *other == source);
        let files = source.alternatives();
        if known || files.len() < 2 || files.iter().any(|file| self.find(file).is_some()) {
            return Ok(());
        }
        let mut refusal = None;
        for alternative in files {
            let Some(file) = alternative.hub_file() else {
                continue;
            };
            match self.hub.locate(&file) {
                Ok(_) => {
                    self.chosen.push((source, alternative));
                    return Ok(());
                }
                Err(error @ (HubError::NoFile { .. } | HubError::Missing { .. })) => {
                    refusal.get_or_insert(error.about(&source.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        refusal.map_or(Ok(()), |error| Err(error.into()))
    }

    fn locate_parts(&mut self, source: &WeightSource) -> Result<(), Error> {
        let mut errors = Vec::new();
        for part in self.parts(source)?.unwrap_or_default() {
            if self.find(&part).is_some() {
                continue;
            }
            let Some(file) = part.hub_file() else {
                errors.push(self.missing(&part, "it is not on the hub"));
                continue;
            };
            match self.hub.locate(&file) {
                Ok(remote) => self.wanted.push((file, remote)),
                Err(error) => {
                    let last = error.stops_all();
                    errors.push(error.into());
                    if last {
                        break;
                    }
                }
            }
        }
        Error::all(errors)
    }

    /// Downloads what of `sources` was located.
    ///
    /// # Errors
    ///
    /// What went wrong on the way.
    pub(crate) fn download<'s>(
        &self,
        sources: impl IntoIterator<Item = &'s WeightSource>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let mut errors = Vec::new();
        for source in sources {
            for part in self.parts(source)?.unwrap_or_default() {
                let file = part.hub_file();
                let wanted = self
                    .wanted
                    .iter()
                    .find(|(other, _)| Some(other) == file.as_ref());
                let Some((file, remote)) = wanted.filter(|_| self.find(&part).is_none()) else {
                    continue;
                };
                if let Err(error) = self.download_one(file, remote, observer) {
                    let last = stops_all(&error);
                    errors.push(error);
                    if last {
                        return Error::all(errors);
                    }
                }
            }
        }
        Error::all(errors)
    }

    /// Downloads a shard index, without which nobody knows what else is to be fetched.
    fn fetch_index(&self, source: &WeightSource, observer: &mut dyn Observer) -> Result<(), Error> {
        let source = &self.meant(source);
        match source.hub_file() {
            Some(file) if source.is_shard_index() && self.hub.cached(&file).is_none() => {
                let remote = self.hub.locate(&file)?;
                self.download_one(&file, &remote, observer)
            }
            _ => Ok(()),
        }
    }

    fn download_one(
        &self,
        file: &HubFile,
        remote: &Remote,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let name = file.to_string();
        self.hub.download(file, remote, &mut |done, total| {
            observer.progress(Stage::Fetch, &name, done as usize, total as usize);
        })?;
        Ok(())
    }

    /// The mixer's checkpoint for `checkpoint = true`.
    fn written<'s>(&'s self, source: &'s WeightSource) -> &'s WeightSource {
        match source {
            WeightSource::Checkpoint => self.checkpoint.as_ref().unwrap_or(source),
            other => other,
        }
    }

    /// The file that a source means: the mixer's checkpoint for `checkpoint = true`, one file of several.
    fn meant(&self, source: &WeightSource) -> WeightSource {
        let source = self.written(source);
        let mut files = source.alternatives();
        if files.len() < 2 {
            return source.clone();
        }
        if let Some((_, chosen)) = self.chosen.iter().find(|(other, _)| other == source) {
            return chosen.clone();
        }
        let here = files.iter().position(|file| self.find(file).is_some());
        files.swap_remove(here.unwrap_or(0))
    }

    /// The files that a source means: itself, or the shards of an index. None while the index is not here.
    fn parts(&self, source: &WeightSource) -> Result<Option<Vec<WeightSource>>, Error> {
        let source = &self.meant(source);
        if !source.is_shard_index() {
            return Ok(Some(vec![source.clone()]));
        }
        if let WeightSource::Local { path, .. } = source {
            let shards = ShardIndex::read(path).map_err(SourceError::from)?;
            let local = |path| WeightSource::Local { path, sha256: None };
            return Ok(Some(shards.into_iter().map(local).collect()));
        }
        let Some(path) = self.find(source) else {
            return Ok(None);
        };
        let index = read_index(&path)?;
        let shards = index.files().iter().map(|shard| source.beside(shard));
        Ok(Some(shards.collect()))
    }

    /// A single file, if it is on this machine.
    fn find(&self, source: &WeightSource) -> Option<PathBuf> {
        match source {
            WeightSource::Local { path, .. } => path.is_file().then(|| path.clone()),
            WeightSource::Hub { .. } => self.hub.cached(&source.hub_file()?),
            WeightSource::Checkpoint => self.find(self.checkpoint.as_ref()?),
        }
    }

    /// Downloads a small file unless it is here, which the repository may lack: then nothing.
    ///
    /// # Errors
    ///
    /// When the hub does not give it for another reason than that there is none, or it is not small.
    pub(crate) fn fetch_small(
        &self,
        source: &WeightSource,
        most: u64,
        observer: &mut dyn Observer,
    ) -> Result<Option<PathBuf>, Error> {
        if let Some(path) = self.find(source) {
            return Ok(Some(path));
        }
        let Some(file) = source.hub_file() else {
            return Ok(None);
        };
        match self.hub.locate(&file) {
            Ok(remote) if remote.size() <= most => {
                self.download_one(&file, &remote, observer)?;
                Ok(self.find(source))
            }
            Ok(_) | Err(HubError::NoFile { .. } | HubError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// That a file is not here, and `why` it is not fetched.
    pub(crate) fn missing(&self, source: &WeightSource, why: &'static str) -> Error {
        let source = self.written(source);
        match (source.hub_file(), source) {
            (Some(file), _) => {
                let error = self.hub.missing(&file, why);
                error.about(&source.to_string()).into()
            }
            (None, WeightSource::Local { path, .. }) => SourceError::Missing(path.clone()).into(),
            (None, _) => SourceError::Missing(Path::new("").to_owned()).into(),
        }
    }
}

/// The index at `path`, which the cache has; its shards may be missing yet.
fn read_index(path: &Path) -> Result<ShardIndex, SourceError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_INDEX).read_to_end(&mut bytes))
        .map_err(|source| SourceError::Read {
            path: path.to_owned(),
            source,
        })?;
    ShardIndex::from_bytes(&bytes).map_err(|why| SourceError::Index {
        path: path.to_owned(),
        why,
    })
}

/// Whether there is no use in trying to fetch other files.
fn stops_all(error: &Error) -> bool {
    match error {
        Error::Hub(error) => HubError::stops_all(error),
        Error::Several(errors) => errors.iter().any(stops_all),
        _ => false,
    }
}

/// The path as text, which is what the plugin boundary takes.
pub(crate) fn utf8(path: &Path) -> Result<String, Error> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::PathNotUtf8(path.to_owned()))
}

/// Names the files of a model's weights to its plugin.
pub(crate) fn name_weights(model: &mut ModelSource, paths: &[PathBuf]) -> Result<(), Error> {
    let texts = paths.iter().map(|path| Ok(utf8(path)?.into()));
    model.weights = texts.collect::<Result<Vec<_>, Error>>()?.into();
    Ok(())
}
