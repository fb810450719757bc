//! What a registry would load: its plugins found and asked, its parts checked against each other, and
//! no weight read.

mod mixer;

pub use mixer::{PlannedMixer, Tensor, Untrained};

use crate::{
    Error, hub,
    mixer::EncoderShape,
    model::{
        files::{Files, name_weights, utf8},
        published,
    },
    plugin::{CallError, Library, PluginPath},
    registry::{
        Asked, DescribedEncoder, DeviceChoice, DtypeChoice, EncoderEntry, LlmEntry, PluginRef,
        Problem, Problems, Registry, RegistryError, SourceError, TableLines, WeightSource, verify,
    },
};
use merv_checkpoint::Checkpoint;
use merv_plugin_api::{
    DType, Device, DeviceKind, EncoderInfo, EncoderRequest, ErrorKind, LanguageModelInfo,
    LanguageModelRequest, ModelKind, ModelSource,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// How models are loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Folders to look for plugins in, before all others.
    pub plugin_folders: Vec<PathBuf>,
    /// Threads to compute with; all that the machine has when absent.
    pub threads: Option<usize>,
    /// Where everything runs, whatever the registry says.
    pub device: Option<DeviceChoice>,
    /// What encoders and the language model multiply matrices in, whatever the registry says.
    pub precision: Option<DtypeChoice>,
    /// Where files of the hub are, and whether they may be downloaded.
    pub hub: hub::Settings,
}

impl LoadOptions {
    /// Threads to compute with.
    pub fn threads(&self) -> usize {
        self.threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Reads a registry, with what is said here in place of what it says.
    ///
    /// # Errors
    ///
    /// As [`Registry::load`].
    pub fn registry(&self, registry: impl AsRef<Path>) -> Result<Registry, RegistryError> {
        Registry::load(registry).map(|registry| self.over(registry))
    }

    /// `registry` with what is said here in place of what it says.
    fn over(&self, mut registry: Registry) -> Registry {
        let encoders = registry.encoders.iter_mut();
        let encoders = encoders.map(|entry| (&mut entry.device, &mut entry.dtype));
        let llm = (&mut registry.llm.device, &mut registry.llm.dtype);
        for (device, dtype) in encoders.chain([llm]) {
            *device = self.device.unwrap_or(*device);
            *dtype = self.precision.unwrap_or(*dtype);
        }
        registry
    }
}

/// A registry whose plugins are loaded and have described their models.
pub struct Plan {
    /// The registry.
    pub registry: Registry,
    /// Its encoders, in order.
    pub encoders: Vec<PlannedEncoder>,
    /// Its language model.
    pub llm: PlannedLlm,
    /// Its mixer.
    pub mixer: PlannedMixer,
    /// Threads to compute with.
    pub threads: usize,
}

/// An encoder that could be loaded.
pub struct PlannedEncoder {
    /// Its plugin.
    pub library: Arc<Library>,
    /// What will be asked of the plugin; of the weights, those that are on this machine already.
    pub request: EncoderRequest,
    /// What the plugin says it will be.
    pub info: EncoderInfo,
    /// Whether it reads no weights.
    pub without_weights: bool,
}

/// A language model that could be loaded.
pub struct PlannedLlm {
    /// Its plugin.
    pub library: Arc<Library>,
    /// What will be asked of the plugin; of the weights, those that are on this machine already.
    pub request: LanguageModelRequest,
    /// What the plugin says it will be.
    pub info: LanguageModelInfo,
}

impl PlannedEncoder {
    /// Bytes of its weights as their files store them; see [`LoadOptions::precision`] for what is computed.
    ///
    /// # Errors
    ///
    /// When a file is damaged.
    pub fn weight_bytes(&self) -> Result<u64, SourceError> {
        if self.without_weights {
            return Ok(0);
        }
        stored_bytes(self.info.parameters, &self.request.model)
    }
}

impl PlannedLlm {
    /// Bytes of its weights as their files store them.
    ///
    /// # Errors
    ///
    /// When a file is damaged.
    pub fn weight_bytes(&self) -> Result<u64, SourceError> {
        stored_bytes(self.info.parameters, &self.request.model)
    }
}

/// Bytes of so many parameters as the files store them, whatever else these hold; where there is no file
/// yet, four each.
fn stored_bytes(parameters: u64, model: &ModelSource) -> Result<u64, SourceError> {
    let files: Vec<&str> = model.weights.iter().map(|path| path.as_str()).collect();
    if !files.is_empty() {
        let checkpoint = Checkpoint::open(&files)?;
        let (mut elements, mut bytes) = (0u64, 0u64);
        for (_, tensor) in checkpoint.iter() {
            elements = elements.saturating_add(tensor.elements() as u64);
            bytes = bytes.saturating_add(tensor.bytes().len() as u64);
        }
        if elements > 0 {
            let stored = u128::from(parameters) * u128::from(bytes) / u128::from(elements);
            return Ok(u64::try_from(stored).unwrap_or(u64::MAX));
        }
    }
    Ok(parameters.saturating_mul(DType::F32.size() as u64))
}

impl Plan {
    /// Loads the plugins of `registry` and asks each to describe its model. Nothing is downloaded.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, together: plugins that cannot be loaded, models they do not know,
    /// parts that do not fit each other, files that hold the sizes of a model and are not on this
    /// machine.
    pub fn new(registry: Registry, options: &LoadOptions) -> Result<Self, Error> {
        let files = Files::new(&registry, &options.hub);
        Self::with(registry, options, &files)
    }

    /// As [`Self::new`], with the files that were fetched.
    pub(crate) fn with(
        registry: Registry,
        options: &LoadOptions,
        files: &Files,
    ) -> Result<Self, Error> {
        let registry = options.over(registry);
        published::check(&registry, files)?;
        let maker = Maker::new(&registry.path, options, files);
        let encoders = Error::collect(registry.encoders.iter().map(|entry| maker.encoder(entry)));
        let models = Error::both(encoders, maker.llm(&registry.llm));
        let mixer = registry.mixer.weights.source();
        let mixer = mixer.map_or(Ok(None), |source| maker.readable(source));
        let ((encoders, llm), mixer) = Error::both(models, mixer)?;
        let width = llm.info.width as usize;
        registry.check_tokens(&described(&registry, &encoders), width)?;
        // A mixer is one file: shards would be joined by the reader, and none are published.
        let path = mixer.and_then(|paths| paths.into_iter().next());
        let mixer = PlannedMixer::new(&registry.mixer, &shapes(&encoders), width, path.as_deref())?;
        Ok(Self {
            threads: maker.threads,
            registry,
            encoders,
            mixer,
            llm,
        })
    }

    /// Returns the number of tokens of each encoder after its projector.
    pub fn projected_tokens(&self) -> Vec<usize> {
        let kind = self.registry.mixer.kind;
        let shapes = self.shapes();
        let tokens = shapes
            .iter()
            .map(|shape| kind.projected_tokens(shape.temporal, shape.spatial));
        tokens.collect()
    }

    /// What the mixer must know of the encoders.
    pub fn shapes(&self) -> Vec<EncoderShape> {
        shapes(&self.encoders)
    }
}

fn described(registry: &Registry, encoders: &[PlannedEncoder]) -> Vec<DescribedEncoder> {
    let pairs = registry.encoders.iter().zip(encoders);
    let described = pairs.map(|(entry, planned)| DescribedEncoder {
        id: entry.id.clone(),
        temporal: planned.info.temporal as usize,
        spatial: planned.info.spatial as usize,
        width: planned.info.width as usize,
    });
    described.collect()
}

fn shapes(encoders: &[PlannedEncoder]) -> Vec<EncoderShape> {
    let shapes = encoders.iter().map(|planned| shape_of(&planned.info));
    shapes.collect()
}

/// The encoders of `registry` alone, which [`LoadOptions::registry`] has read, as [`Plan::new`] asks for them.
///
/// # Errors
///
/// Everything that is wrong with them, together.
pub(crate) fn encoders(
    registry: &Registry,
    options: &LoadOptions,
    files: &Files,
) -> Result<Vec<PlannedEncoder>, Error> {
    let maker = Maker::new(&registry.path, options, files);
    Error::collect(registry.encoders.iter().map(|entry| maker.encoder(entry)))
}

/// What the mixer must know of an encoder.
pub(crate) fn shape_of(info: &EncoderInfo) -> EncoderShape {
    EncoderShape {
        width: info.width as usize,
        temporal: info.temporal as usize,
        spatial: info.spatial as usize,
    }
}

/// What is the same for all models of a plan.
struct Maker<'f> {
    /// The registry's file.
    registry: PathBuf,
    /// Keys that the command line overrides, with the options that do.
    overridden: Vec<(&'static str, &'static str)>,
    files: &'f Files,
    path: PluginPath,
    threads: usize,
}

impl<'f> Maker<'f> {
    fn new(registry: &Path, options: &LoadOptions, files: &'f Files) -> Self {
        let device = options.device.map(|_| ("device", "--device"));
        let dtype = options.precision.map(|_| ("dtype", "--precision"));
        Self {
            registry: registry.to_owned(),
            overridden: device.into_iter().chain(dtype).collect(),
            files,
            path: PluginPath::from_env(&options.plugin_folders),
            threads: options.threads(),
        }
    }

    fn library(&self, plugin: &PluginRef) -> Result<Arc<Library>, Error> {
        let path = match plugin {
            PluginRef::Name(name) => self.path.find(name)?,
            PluginRef::Library { path, sha256 } => {
                if let Some(digest) = sha256 {
                    verify(path, digest)?;
                }
                path.clone()
            }
        };
        Ok(Library::open(&path, self.threads)?)
    }

    fn encoder(&self, entry: &EncoderEntry) -> Result<PlannedEncoder, Error> {
        let library = self.library(&entry.plugin)?;
        let known = check_id(&library, &entry.id, ModelKind::Encoder);
        let asked = self.asked(&library, &entry.id, &entry.lines);
        self.accept(wrong_device(&asked, entry.device))?;
        let models = &library.manifest().models;
        let without_weights = models
            .iter()
            .any(|model| model.id == entry.id && model.without_weights);
        // An unknown id is another mistake than missing weights.
        let wanted = entry.weights.is_none() && !without_weights && known.is_ok();
        self.accept(wanted.then(|| asked.no_weights()))?;
        let request = EncoderRequest {
            model: self.source(&Part {
                id: &entry.id,
                weights: entry.weights.as_ref(),
                config: entry.config.as_ref(),
                device: entry.device,
                dtype: entry.dtype,
            })?,
            num_frames: entry.num_frames as u32,
            image_size: entry.image_size.map(|size| size as u32).into(),
        };
        let described = library.describe_encoder(&request);
        if let Err(unknown) = known {
            // The plugin may know better than its list why there is no such encoder.
            return Err(match described {
                Err(refusal) if refusal.failure.kind == ErrorKind::Unsupported => refusal.into(),
                _ => unknown,
            });
        }
        let info = self.answered(&asked, described)?;
        let size = entry
            .image_size
            .filter(|&size| size != info.image_size as usize);
        let size = size.map(|size| {
            let described = info.image_size.to_string();
            asked.differs("image_size", &size.to_string(), &described)
        });
        Error::both(
            self.accept(size),
            self.accept(wrong_dtype(&asked, entry.dtype, info.dtype)),
        )?;
        Ok(PlannedEncoder {
            library: Arc::clone(&library),
            request,
            info,
            without_weights,
        })
    }

    fn llm(&self, entry: &LlmEntry) -> Result<PlannedLlm, Error> {
        let library = self.library(&entry.plugin)?;
        check_id(&library, &entry.id, ModelKind::Llm)?;
        let asked = self.asked(&library, &entry.id, &entry.lines);
        self.accept(wrong_device(&asked, entry.device))?;
        if let Some(source) = entry.sizes_in_weights()
            && self.files.present(source)?.is_none()
        {
            let why = "the sizes of a GGUF model are in its file";
            return Err(self.files.missing(source, why));
        }
        let request = LanguageModelRequest {
            model: self.source(&Part {
                id: &entry.id,
                weights: Some(&entry.weights),
                config: entry.config.as_ref(),
                device: entry.device,
                dtype: entry.dtype,
            })?,
        };
        let info = self.answered(&asked, library.describe_llm(&request))?;
        self.accept(wrong_dtype(&asked, entry.dtype, info.dtype))?;
        self.readable(&entry.weights)?;
        Ok(PlannedLlm {
            library: Arc::clone(&library),
            request,
            info,
        })
    }

    /// The files of a source, if they are here. They are opened, so that damaged ones are told together with
    /// everything else that is wrong.
    fn readable(&self, source: &WeightSource) -> Result<Option<Vec<PathBuf>>, Error> {
        let paths = self.files.present(source)?;
        if let Some(paths) = &paths {
            Checkpoint::open(paths)?;
        }
        Ok(paths)
    }

    fn asked<'a>(&self, library: &'a Library, id: &'a str, lines: &'a TableLines) -> Asked<'a> {
        Asked {
            lines,
            id,
            manifest: library.manifest(),
            overridden: self.overridden.clone(),
        }
    }

    /// An error if there is a problem with the registry.
    fn accept(&self, problem: Option<Problem>) -> Result<(), Error> {
        match problem {
            None => Ok(()),
            Some(problem) => {
                let problems = Problems::new(&self.registry, vec![problem]);
                Err(RegistryError::from(problems).into())
            }
        }
    }

    /// The plugin's description; what it refuses is a problem with the registry, unless a file is at fault.
    fn answered<T>(&self, asked: &Asked<'_>, answer: Result<T, CallError>) -> Result<T, Error> {
        answer.map_err(|error| match self.accept(asked.refused(&error)) {
            Err(problem) => problem,
            Ok(()) => error.into(),
        })
    }

    /// What is said of the model before it is loaded: of its weights, those that are on this machine.
    fn source(&self, part: &Part<'_>) -> Result<ModelSource, Error> {
        let config = part.config.map(|source| {
            let path = self.files.path(source)?;
            utf8(&path).map(Into::into)
        });
        let mut model = ModelSource {
            id: part.id.into(),
            weights: Vec::new().into(),
            config: config.transpose()?.into(),
            device: match part.device {
                // The plugins of this version compute on the CPU.
                DeviceChoice::Auto | DeviceChoice::Cpu => Device::CPU,
                DeviceChoice::Cuda(ordinal) => Device {
                    kind: DeviceKind::Cuda,
                    ordinal,
                },
            },
            dtype: dtype_of(part.dtype).into(),
        };
        let present = part.weights.map(|weights| self.files.present(weights));
        let present = present.transpose()?.flatten().unwrap_or_default();
        name_weights(&mut model, &present)?;
        Ok(model)
    }
}

/// What encoders and language models have in common.
struct Part<'e> {
    id: &'e str,
    weights: Option<&'e WeightSource>,
    config: Option<&'e WeightSource>,
    device: DeviceChoice,
    dtype: DtypeChoice,
}

/// What a dtype asks for, if it asks for one.
fn dtype_of(choice: DtypeChoice) -> Option<DType> {
    match choice {
        DtypeChoice::Auto => None,
        DtypeChoice::F32 => Some(DType::F32),
        DtypeChoice::F16 => Some(DType::F16),
        DtypeChoice::Bf16 => Some(DType::BF16),
    }
}

fn wrong_dtype(asked: &Asked<'_>, choice: DtypeChoice, described: DType) -> Option<Problem> {
    let wrong = dtype_of(choice).filter(|&dtype| dtype != described)?;
    Some(asked.differs("dtype", wrong.name(), described.name()))
}

fn wrong_device(asked: &Asked<'_>, choice: DeviceChoice) -> Option<Problem> {
    match choice {
        DeviceChoice::Auto => None,
        DeviceChoice::Cpu => asked.device("cpu", "cpu"),
        DeviceChoice::Cuda(_) => asked.device("cuda", &choice.to_string()),
    }
}

fn check_id(library: &Library, id: &str, kind: ModelKind) -> Result<(), Error> {
    let models = &library.manifest().models;
    if models
        .iter()
        .any(|model| model.kind == kind && model.id == id)
    {
        return Ok(());
    }
    let known: Vec<_> = models
        .iter()
        .filter(|model| model.kind == kind)
        .map(|model| model.id.as_str())
        .collect();
    Err(Error::UnknownModel {
        plugin: library.manifest().name.clone(),
        kind: match kind {
            ModelKind::Encoder => "encoder",
            ModelKind::Llm => "language model",
        },
        id: id.to_owned(),
        known: if known.is_empty() {
            "none: it brings no such models".into()
        } else {
            known.join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_a_parameter_is_four_bytes() {
        let model = ModelSource {
            id: "x".into(),
            weights: Vec::new().into(),
            config: None.into(),
            device: Device::CPU,
            dtype: Some(DType::BF16).into(),
        };
        assert_eq!(stored_bytes(7, &model).unwrap(), 28);
        assert_eq!(stored_bytes(u64::MAX, &model).unwrap(), u64::MAX);
    }
}
