//! The loaded encoders of a model. They compute features from a video. A [`FeatureCache`] keeps the features
//! of earlier clips.

use crate::{
    Error, Observer, Stage,
    features::{ClipKey, EncoderIdentity, EncoderKey, FeatureCache},
    memory,
    model::{
        files::{Files, set_weights},
        options::VideoOptions,
        plan::{self, LoadOptions, PlannedEncoder},
    },
    plugin::{Encoder, PluginTensor, Tape},
    registry::{MixerKind, Registry},
    transform::{self, Clip, ClipRequest, PixelKind, Pixels, ResizeStrategy},
    video,
};
use candle_core::{Device, Tensor};
use merv_plugin_api::{Clips, EncoderInfo};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Instant,
};

/// All encoders of a registry, in its order. They can be used from several threads.
pub struct Encoders {
    loaded: Vec<LoadedEncoder>,
    /// The number of frames that are read from a video. Each encoder uses a subset.
    num_frames: usize,
    resize: ResizeStrategy,
    threads: usize,
    /// Computed when a cache is first used, because this reads the weights.
    keys: OnceLock<Vec<EncoderKey>>,
}

struct LoadedEncoder {
    encoder: Encoder,
    identity: EncoderIdentity,
    /// The location of the weights, for messages.
    weights: String,
}

/// A video that was read for the encoders, or its cached features. Videos can be prepared on another thread
/// while the encoders are busy.
pub struct Prepared {
    /// The cache keys of all encoders. Empty without a cache.
    keys: Vec<ClipKey>,
    /// The features from the cache, `[tokens, width]`.
    cached: Vec<Option<Tensor>>,
    /// The inputs of the encoders whose features are not in the cache.
    clips: Vec<Option<Arc<Clip>>>,
    frame_indices: Vec<usize>,
    /// The time of each frame, in seconds from the first frame of the video. Empty if it was not read.
    frame_seconds: Vec<f64>,
    timings: BTreeMap<Stage, f64>,
}

impl Prepared {
    /// Returns the times of the `count` frames that an encoder takes.
    fn seconds(&self, count: usize) -> Vec<f64> {
        let every = self.frame_seconds.len().checked_div(count).unwrap_or(0);
        let times = self.frame_seconds.iter().step_by(every.max(1));
        times.copied().collect()
    }
}

/// The features of a video.
pub struct Features {
    /// The features of each encoder, in order: `[1, tokens, width]` in f32.
    pub tensors: Vec<Tensor>,
    /// The number of encoders whose features came from a cache.
    pub cached: usize,
    /// The input of each encoder, unless its features came from a cache.
    pub clips: Vec<Option<Arc<Clip>>>,
    /// The indices of the sampled frames. Empty if no video was read.
    pub frame_indices: Vec<usize>,
    /// The seconds of each stage that was run.
    pub timings: BTreeMap<Stage, f64>,
}

impl Prepared {
    /// Returns whether all features came from the cache, so that no video was read.
    pub fn is_cached(&self) -> bool {
        self.cached.iter().all(Option::is_some)
    }
}

impl Encoders {
    /// Loads only the encoders of a registry, given as a FILE or NAME.
    ///
    /// # Errors
    ///
    /// Returns all problems with the registry and its encoders.
    pub fn load(
        registry: impl AsRef<Path>,
        options: &LoadOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let registry = options.registry(registry)?;
        let mut files = Files::new(&registry, &options.hub);
        let weights = registry.encoders.iter().flat_map(|entry| &entry.weights);
        let configs = registry.encoders.iter().flat_map(|entry| &entry.config);
        files.locate(configs.clone().chain(weights.clone()), observer)?;
        files.download(configs, observer)?;
        let planned = plan::encoders(&registry, options, &files)?;
        files.download(weights, observer)?;
        let parts = planned.len();
        Self::assemble(
            &registry,
            planned,
            &files,
            options.threads(),
            &mut |index, id| {
                observer.progress(Stage::Load, id, index, parts);
            },
        )
    }

    /// Loads planned encoders, whose files are all on this machine. `watch` is called with the index and the id
    /// of each encoder before it is loaded.
    pub(crate) fn assemble(
        registry: &Registry,
        planned: Vec<PlannedEncoder>,
        files: &Files,
        threads: usize,
        watch: &mut dyn FnMut(usize, &str),
    ) -> Result<Self, Error> {
        let resize = registry.transform.resize;
        let entries = registry.encoders.iter().zip(planned).enumerate();
        let loaded = Error::collect(entries.map(|(index, (entry, planned))| {
            watch(index, &entry.id);
            let PlannedEncoder {
                library,
                mut request,
                info,
                ..
            } = planned;
            let weights = entry.weights.as_ref().map(|source| files.paths(source));
            let weights = weights.transpose()?.unwrap_or_default();
            set_weights(&mut request.model, &weights)?;
            let encoder = library.load_encoder(&request, &info)?;
            let identity = EncoderIdentity {
                id: entry.id.clone(),
                plugin: library.manifest().name.clone(),
                version: library.manifest().version.clone(),
                weights,
                config: request.model.config,
                info: encoder.info().clone(),
                resize,
            };
            Ok(LoadedEncoder {
                encoder,
                identity,
                weights: entry.weights_name(),
            })
        }))?;
        Ok(Self {
            loaded,
            num_frames: registry.largest_num_frames(),
            resize,
            threads,
            keys: OnceLock::new(),
        })
    }

    /// Returns the ids of the encoders, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.loaded.iter().map(|loaded| loaded.identity.id.as_str())
    }

    /// Returns the descriptions of the encoders, in order.
    pub fn infos(&self) -> impl ExactSizeIterator<Item = &EncoderInfo> {
        self.loaded.iter().map(|loaded| loaded.encoder.info())
    }

    /// Returns the number of visual tokens after a mixer of this kind.
    pub fn visual_tokens(&self, kind: MixerKind) -> usize {
        let projected = self
            .infos()
            .map(|info| kind.projected_tokens(info.temporal as usize, info.spatial as usize));
        kind.visual_tokens(&projected.collect::<Vec<_>>())
    }

    /// Returns the selection of frames for these options.
    pub fn selection(&self, options: &VideoOptions) -> video::Selection {
        video::Selection {
            num_frames: self.num_frames,
            start: options.start,
            end: options.end,
            end_frame: options.end_frame,
            folder_fps: options.folder_fps,
            seconds: options.seconds,
        }
    }

    /// Looks up the features of a video in the cache, and reads the video for the other encoders.
    ///
    /// # Errors
    ///
    /// Returns an error if the video cannot be read.
    pub fn prepare(
        &self,
        video: &Path,
        options: &VideoOptions,
        cache: Option<&FeatureCache>,
        observer: &mut dyn Observer,
    ) -> Result<Prepared, Error> {
        let selection = self.selection(options);
        let keys = match cache {
            Some(cache) => self.clip_keys(video, &selection, cache)?,
            None => Vec::new(),
        };
        let mut prepared = Prepared {
            cached: vec![None; self.loaded.len()],
            clips: vec![None; self.loaded.len()],
            frame_indices: Vec::new(),
            frame_seconds: Vec::new(),
            timings: BTreeMap::new(),
            keys,
        };
        if let Some(cache) = cache {
            let found = prepared.keys.iter().zip(&self.loaded).map(|(key, loaded)| {
                let info = loaded.encoder.info();
                let shape = [(info.temporal * info.spatial) as usize, info.width as usize];
                // A tensor of another shape was not written for this encoder.
                cache.get(key).filter(|features| features.dims() == shape)
            });
            found
                .zip(&mut prepared.cached)
                .for_each(|(found, place)| *place = found);
        }
        if !prepared.is_cached() {
            self.read(video, &selection, options, &mut prepared, observer)?;
        }
        Ok(prepared)
    }

    /// Returns the keys of those features of a video that are not in the cache, or `None` if the video does not
    /// exist. The video is not decoded.
    ///
    /// # Errors
    ///
    /// Returns an error if a file that the features depend on cannot be read.
    pub fn missing_features(
        &self,
        video: &Path,
        options: &VideoOptions,
        cache: &FeatureCache,
    ) -> Result<Option<Vec<ClipKey>>, Error> {
        let keys = self.clip_keys(video, &self.selection(options), cache)?;
        let is_there = !keys.is_empty();
        let missing = keys.into_iter().filter(|key| !cache.contains(key));
        Ok(is_there.then(|| missing.collect()))
    }

    fn read(
        &self,
        video: &Path,
        selection: &video::Selection,
        options: &VideoOptions,
        prepared: &mut Prepared,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let mut watch = Instant::now();
        let mut lap = |prepared: &mut Prepared, stage| {
            let seconds = watch.elapsed().as_secs_f64();
            prepared.timings.insert(stage, seconds);
            watch = Instant::now();
        };
        observer.progress(Stage::Decode, &video.display().to_string(), 0, 1);
        memory::check().map_err(Error::LittleMemory)?;
        let limits = video::ReadLimits {
            threads: self.threads,
            ..options.limits
        };
        let frames = video::read(video, selection, &limits);
        let frames = frames.map_err(|error| Error::of_file(video, error))?;
        prepared.frame_indices = frames.indices;
        prepared.frame_seconds = frames.seconds;
        lap(prepared, Stage::Decode);
        observer.progress(Stage::Transform, "frames", 0, 1);
        let missing = || (0..self.loaded.len()).filter(|&index| prepared.cached[index].is_none());
        let requests: Vec<_> = missing()
            .map(|index| {
                let info = self.loaded[index].encoder.info();
                ClipRequest {
                    spec: &info.preprocess,
                    num_frames: info.num_frames as usize,
                    pixels: PixelKind::of(info),
                }
            })
            .collect();
        let clips = transform::clips(&frames.frames, &requests, self.resize, self.threads);
        let clips = clips.map_err(|error| Error::of_file(video, error))?;
        for (index, clip) in missing().collect::<Vec<_>>().into_iter().zip(clips) {
            prepared.clips[index] = Some(clip);
        }
        lap(prepared, Stage::Transform);
        Ok(())
    }

    /// Runs the encoders on a prepared video, and stores their features in the cache.
    ///
    /// With a cache, the result is rounded to the precision of the cache. It therefore does not depend on
    /// whether the features were already in the cache.
    ///
    /// # Errors
    ///
    /// Returns an error if a plugin fails or the features cannot be stored.
    pub fn encode(
        &self,
        prepared: Prepared,
        cache: Option<&FeatureCache>,
        observer: &mut dyn Observer,
    ) -> Result<Features, Error> {
        memory::check().map_err(Error::LittleMemory)?;
        let started = Instant::now();
        let Prepared {
            keys,
            cached,
            clips,
            ..
        } = &prepared;
        let count = cached.iter().flatten().count();
        let mut tensors = Vec::with_capacity(self.loaded.len());
        for (index, loaded) in self.loaded.iter().enumerate() {
            let features = match (&cached[index], &clips[index]) {
                (None, Some(clip)) => {
                    let id = &loaded.identity.id;
                    observer.progress(Stage::Encode, id, index, self.loaded.len());
                    let seconds = prepared.seconds(clip.num_frames);
                    let features = encode(&loaded.encoder, clip, &seconds)?;
                    check_finite(&features, id, &loaded.weights)?;
                    match cache.zip(keys.get(index)) {
                        Some((cache, key)) => cache.put(key, &features)?,
                        None => features,
                    }
                }
                (Some(features), _) => features.clone(),
                (None, None) => {
                    let what = "the clip was prepared for the encoders of another model";
                    return Err(Error::boundary(what));
                }
            };
            tensors.push(features.unsqueeze(0)?);
        }
        let Prepared {
            clips,
            frame_indices,
            mut timings,
            ..
        } = prepared;
        timings.insert(Stage::Encode, started.elapsed().as_secs_f64());
        Ok(Features {
            tensors,
            cached: count,
            clips,
            frame_indices,
            timings,
        })
    }

    /// Returns the encoder with this index.
    pub(crate) fn encoder(&self, index: usize) -> Option<&Encoder> {
        self.loaded.get(index).map(|loaded| &loaded.encoder)
    }

    /// Returns the weights files of the encoder with this index.
    pub(crate) fn weight_files(&self, index: usize) -> &[PathBuf] {
        let loaded = self.loaded.get(index);
        loaded.map_or(&[], |loaded| &loaded.identity.weights)
    }

    /// Runs the encoders on videos that were prepared without a cache. Returns the features
    /// `[videos, tokens, width]` of each encoder and the tape for the backward pass.
    ///
    /// # Errors
    ///
    /// Returns an error if a plugin fails or training has not begun.
    pub(crate) fn forward_train(
        &self,
        videos: &[Prepared],
    ) -> Result<Vec<(Tensor, Tape<'_>)>, Error> {
        let mut outputs = Vec::with_capacity(self.loaded.len());
        for (index, loaded) in self.loaded.iter().enumerate() {
            let clips = videos
                .iter()
                .filter_map(|video| video.clips[index].as_deref());
            let clips: Vec<&Clip> = clips.collect();
            let Some(first) = clips.first() else { break };
            let shape = [
                clips.len(),
                first.num_frames,
                3,
                first.image_size,
                first.image_size,
            ];
            let data: Vec<&Pixels> = clips.iter().map(|clip| &clip.data).collect();
            let data = Pixels::concat(&data)?;
            let seconds = videos.iter().map(|video| video.seconds(first.num_frames));
            let seconds: Vec<f64> = seconds.flatten().collect();
            let batch = Clips::new(data.view(&shape)?).at(&seconds)?;
            let (features, tape) = loaded.encoder.forward_train(&batch)?;
            let features = tensor(&features, features.shape())?;
            check_finite(&features, &loaded.identity.id, &loaded.weights)?;
            outputs.push((features, tape));
        }
        Ok(outputs)
    }

    /// Returns the cache keys of a video for all encoders. The list is empty if the video cannot be read;
    /// reading it reports the reason.
    fn clip_keys(
        &self,
        video: &Path,
        selection: &video::Selection,
        cache: &FeatureCache,
    ) -> Result<Vec<ClipKey>, Error> {
        // Reading a pipe or a device might not end.
        if !fs::metadata(video).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir()) {
            return Ok(Vec::new());
        }
        let keys = match self.keys.get() {
            Some(keys) => keys,
            None => {
                let keys = self.loaded.iter();
                let keys = keys.map(|loaded| EncoderKey::new(&loaded.identity, cache.digests()));
                let keys = keys.collect::<Result<Vec<_>, _>>()?;
                self.keys.get_or_init(|| keys)
            }
        };
        let digest = cache.digests().of(video);
        let video = digest.map_err(|error| Error::of_file(video, error))?;
        Ok(keys.iter().map(|key| key.clip(&video, selection)).collect())
    }
}

/// Refuses values that are not finite. It is called right after they are computed, so that the error names
/// their origin.
pub(crate) fn check_finite(
    values: &Tensor,
    what: &str,
    weights: impl Display,
) -> Result<(), Error> {
    // A sum is finite only if every value is. It could overflow only for values far larger than a model's.
    let sum = values.sum_all()?.to_scalar::<f32>()?;
    if sum.is_finite() {
        return Ok(());
    }
    Err(Error::NotFinite {
        what: what.to_owned(),
        weights: weights.to_string(),
    })
}

/// Computes the features `[tokens, width]` of a clip, in main memory.
fn encode(encoder: &Encoder, clip: &Clip, seconds: &[f64]) -> Result<Tensor, Error> {
    let size = clip.image_size;
    let shape = [1, clip.num_frames, 3, size, size];
    let clips = Clips::new(clip.data.view(&shape)?).at(seconds)?;
    let features = encoder.encode(&clips)?;
    tensor(&features, &features.shape()[1..])
}

/// Returns a tensor of a plugin as one of the mixer.
fn tensor(values: &PluginTensor, shape: &[usize]) -> Result<Tensor, Error> {
    Ok(match values.f32s()? {
        Cow::Borrowed(values) => Tensor::from_slice(values, shape, &Device::Cpu)?,
        Cow::Owned(values) => Tensor::from_vec(values, shape, &Device::Cpu)?,
    })
}
