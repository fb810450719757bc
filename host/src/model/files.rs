//! Finding and downloading the files of a registry.
//!
//! All missing files are requested from the hub before any of them is downloaded. Otherwise a gated repository
//! could be noticed only after an hour of downloads.

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

/// The maximum number of bytes that are read from a shard index. A longer file is then refused as incomplete.
const MAX_INDEX: u64 = 1 << 26;

/// Finds and downloads the files of one registry.
pub(crate) struct Files {
    hub: Hub,
    /// The file for `checkpoint = true`. `None` if the mixer has not been trained.
    checkpoint: Option<WeightSource>,
    /// Sources with several alternatives on the hub, and the alternative that was chosen.
    chosen: Vec<(WeightSource, WeightSource)>,
    /// Files on the hub that are missing on this machine.
    wanted: Vec<(HubFile, Remote)>,
    /// Files whose digests were verified. A file can be used several times, and reading it can take a minute.
    verified: Mutex<HashSet<PathBuf>>,
}

impl Files {
    /// Creates the files of a registry. Nothing is read yet.
    pub(crate) fn new(registry: &Registry, settings: &Settings) -> Self {
        Self {
            hub: Hub::new(settings.clone()),
            checkpoint: registry.mixer.weights.trained().cloned(),
            chosen: Vec::new(),
            wanted: Vec::new(),
            verified: Mutex::default(),
        }
    }

    /// Returns the paths of a source if all its files are on this machine: one path, or the shards of an index
    /// in order. Digests are not verified.
    ///
    /// # Errors
    ///
    /// Returns an error if a shard index cannot be used.
    pub(crate) fn present(&self, source: &WeightSource) -> Result<Option<Vec<PathBuf>>, Error> {
        let Some(parts) = self.parts(source)? else {
            return Ok(None);
        };
        Ok(parts.iter().map(|part| self.find(part)).collect())
    }

    /// Returns the names of those sources of a registry that are not on this machine.
    ///
    /// # Errors
    ///
    /// Returns an error if a shard index cannot be used.
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

    /// Returns the paths of a source. All its files must be on this machine. The digest in the registry is
    /// verified.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is missing, has another digest, or is an index that cannot be used.
    pub(crate) fn paths(&self, source: &WeightSource) -> Result<Vec<PathBuf>, Error> {
        let source = &self.resolved(source);
        let here = |source: &WeightSource| {
            self.find(source)
                .ok_or_else(|| self.missing(source, "this command does not download files"))
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

    /// Returns the path of a source that is a single file.
    ///
    /// # Errors
    ///
    /// The same as [`Self::paths`]. Also returns an error if it is several files.
    pub(crate) fn path(&self, source: &WeightSource) -> Result<PathBuf, Error> {
        let mut paths = self.paths(source)?;
        match (paths.pop(), paths.len()) {
            (Some(path), 0) => Ok(path),
            _ => Err(SourceError::Sharded(self.without_reference(source).to_string()).into()),
        }
    }

    /// Requests the descriptions of all missing files of `sources` from the hub. Only shard indexes are
    /// downloaded.
    ///
    /// # Errors
    ///
    /// Returns the errors of all files that are not available.
    pub(crate) fn locate<'s>(
        &mut self,
        sources: impl IntoIterator<Item = &'s WeightSource>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let mut errors = Vec::new();
        let mut different: Vec<WeightSource> = Vec::new();
        for source in sources
            .into_iter()
            .map(|source| self.without_reference(source))
        {
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

    /// Chooses one of several alternatives: the first on this machine, or else the first on the hub.
    fn choose(&mut self, source: &WeightSource) -> Result<(), Error> {
        let source = self.without_reference(source).clone();
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
                    refusal.get_or_insert(error.with_file_name(&source.to_string()));
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

    /// Downloads the located files of `sources`.
    ///
    /// # Errors
    ///
    /// Returns the errors of the downloads.
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

    /// Downloads a shard index, which lists the other files of the source.
    fn fetch_index(&self, source: &WeightSource, observer: &mut dyn Observer) -> Result<(), Error> {
        let source = &self.resolved(source);
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

    /// Replaces `checkpoint = true` with the mixer's checkpoint.
    fn without_reference<'s>(&'s self, source: &'s WeightSource) -> &'s WeightSource {
        match source {
            WeightSource::Checkpoint => self.checkpoint.as_ref().unwrap_or(source),
            other => other,
        }
    }

    /// Returns the single source for a source: the mixer's checkpoint for `checkpoint = true`, and the chosen
    /// one of several alternatives.
    fn resolved(&self, source: &WeightSource) -> WeightSource {
        let source = self.without_reference(source);
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

    /// Returns the files of a source: itself, or the shards of an index. Returns `None` if the index is missing.
    fn parts(&self, source: &WeightSource) -> Result<Option<Vec<WeightSource>>, Error> {
        let source = &self.resolved(source);
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
        let shards: Vec<_> = shards.collect();
        let here: Option<Vec<_>> = shards.iter().map(|shard| self.find(shard)).collect();
        if let Some(here) = here {
            index.check(&path, &here).map_err(SourceError::from)?;
        }
        Ok(Some(shards))
    }

    /// Returns the path of a single file if it is on this machine.
    fn find(&self, source: &WeightSource) -> Option<PathBuf> {
        match source {
            WeightSource::Local { path, .. } => path.is_file().then(|| path.clone()),
            WeightSource::Hub { .. } => self.hub.cached(&source.hub_file()?),
            WeightSource::Checkpoint => self.find(self.checkpoint.as_ref()?),
        }
    }

    /// Downloads a small file that may be absent from the repository, unless it is on this machine. Returns
    /// `None` if it does not exist or is larger than `most` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the request or the download fails for another reason.
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

    /// Returns the error that a file is missing and is not downloaded for the reason `why`.
    pub(crate) fn missing(&self, source: &WeightSource, why: &'static str) -> Error {
        let source = self.without_reference(source);
        match (source.hub_file(), source) {
            (Some(file), _) => {
                let error = self.hub.missing(&file, why);
                error.with_file_name(&source.to_string()).into()
            }
            (None, WeightSource::Local { path, .. }) => SourceError::Missing(path.clone()).into(),
            (None, _) => SourceError::Missing(Path::new("").to_owned()).into(),
        }
    }
}

/// Reads an index in the cache. Its shards may be missing.
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

/// Returns whether the downloads of other files would fail too.
fn stops_all(error: &Error) -> bool {
    match error {
        Error::Hub(error) => HubError::stops_all(error),
        Error::Several(errors) => errors.iter().any(stops_all),
        _ => false,
    }
}

/// Returns a path as UTF-8 text, which is the type of paths in the plugin interface.
pub(crate) fn utf8(path: &Path) -> Result<String, Error> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::PathNotUtf8(path.to_owned()))
}

/// Sets the weights files of a model for its plugin.
pub(crate) fn set_weights(model: &mut ModelSource, paths: &[PathBuf]) -> Result<(), Error> {
    let texts = paths.iter().map(|path| Ok(utf8(path)?.into()));
    model.weights = texts.collect::<Result<Vec<_>, Error>>()?;
    Ok(())
}
