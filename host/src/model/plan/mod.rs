//! Planning what a registry loads. The plugins are loaded and describe their models, and the parts are checked
//! against each other. Weights are not loaded.

mod mixer;
mod plugins;
mod requested;

pub use mixer::{MixerTensor, PlannedMixer, UntrainedMixer};

use crate::{
    Error, hub,
    mixer::{EncoderShape, FusionPlugin},
    model::{
        files::{Files, set_weights, utf8},
        published,
    },
    plugin::{CallError, Choice, Library, PluginPath, Wanted},
    registry::{
        DescribedEncoder, DeviceChoice, DtypeChoice, EncoderEntry, LlmEntry, PluginRef, Problem,
        Problems, Registry, RegistryError, RequestContext, SourceError, TableLines, WeightSource,
    },
    threads,
};
use merv_checkpoint::Checkpoint;
use merv_plugin_api::{
    DType, Device, EncoderInfo, EncoderRequest, ErrorKind, LanguageModelInfo, LanguageModelRequest,
    MixerInput, MixerRequest, ModelSource, kind,
};
use plugins::Plugins;
use requested::{
    check_id, device_of, dtype_of, other_device, wrong_device, wrong_dtype, wrong_options,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How models are loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Folders that are searched for plugins before all others.
    pub plugin_folders: Vec<PathBuf>,
    /// The number of compute threads. The default is all threads of the machine.
    pub threads: Option<usize>,
    /// The device of all models. It overrides the registry.
    pub device: Option<DeviceChoice>,
    /// The library that the plugins compute with: `candle`, `libtorch`, … It overrides the names of plugins in the
    /// registry.
    pub backend: Option<String>,
    /// The number format of matrix multiplications in the encoders and the language model. It overrides the
    /// registry.
    pub precision: Option<DtypeChoice>,
    /// What messages call the option that gave the precision; `--precision` when absent.
    pub precision_option: Option<&'static str>,
    /// The settings of the hub and its cache.
    pub hub: hub::Settings,
}

impl LoadOptions {
    /// Returns the number of compute threads: no more than are useful on this machine.
    pub fn threads(&self) -> usize {
        self.threads
            .map_or_else(threads::available, threads::useful)
    }

    /// Reads a registry, and overrides it with these options.
    ///
    /// # Errors
    ///
    /// The same as [`Registry::load`].
    pub fn registry(&self, registry: impl AsRef<Path>) -> Result<Registry, RegistryError> {
        Registry::load(registry).map(|registry| self.overridden(registry))
    }

    /// Overrides a registry with these options.
    fn overridden(&self, mut registry: Registry) -> Registry {
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
    /// The number of compute threads.
    pub threads: usize,
}

/// An encoder that can be loaded.
pub struct PlannedEncoder {
    /// Its plugin.
    pub library: Arc<Library>,
    /// Why this plugin was taken.
    pub choice: Choice,
    /// The request to the plugin. It contains only the weights that are on this machine.
    pub request: EncoderRequest,
    /// The plugin's description of the encoder.
    pub info: EncoderInfo,
    /// Whether the encoder has no weights.
    pub without_weights: bool,
}

/// A language model that can be loaded.
pub struct PlannedLlm {
    /// Its plugin.
    pub library: Arc<Library>,
    /// Why this plugin was taken.
    pub choice: Choice,
    /// The request to the plugin. It contains only the weights that are on this machine.
    pub request: LanguageModelRequest,
    /// The plugin's description of the language model.
    pub info: LanguageModelInfo,
}

impl PlannedEncoder {
    /// Returns the size of its weights in bytes, in the number format of their files.
    /// [`LoadOptions::precision`] is the format of the computation.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is damaged.
    pub fn weight_bytes(&self) -> Result<u64, SourceError> {
        if self.without_weights {
            return Ok(0);
        }
        stored_bytes(self.info.parameters, &self.request.model)
    }
}

impl PlannedLlm {
    /// Returns the size of its weights in bytes, in the number format of their files.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is damaged.
    pub fn weight_bytes(&self) -> Result<u64, SourceError> {
        stored_bytes(self.info.parameters, &self.request.model)
    }
}

/// Returns the size of a number of parameters in bytes, in the number format of the files. The files may contain
/// other tensors too. Without a file, a parameter has four bytes.
fn stored_bytes(parameters: u64, model: &ModelSource) -> Result<u64, SourceError> {
    if !model.weights.is_empty() {
        let checkpoint = Checkpoint::open(&model.weights)?;
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
    /// Loads the plugins of `registry` and requests descriptions of their models. Nothing is downloaded.
    ///
    /// # Errors
    ///
    /// Returns all problems: plugins that cannot be loaded, unknown models, parts that do not fit together, and
    /// missing files with the sizes of a model.
    pub fn new(registry: Registry, options: &LoadOptions) -> Result<Self, Error> {
        let files = Files::new(&registry, &options.hub);
        Self::with(registry, options, &files)
    }

    /// Does the same as [`Self::new`], with files that were downloaded before.
    pub(crate) fn with(
        registry: Registry,
        options: &LoadOptions,
        files: &Files,
    ) -> Result<Self, Error> {
        let registry = options.overridden(registry);
        published::check(&registry, files)?;
        let planner = Planner::new(&registry.path, options, files);
        let encoders = Error::collect(registry.encoders.iter().map(|entry| planner.encoder(entry)));
        let models = Error::both(encoders, planner.llm(&registry.llm));
        let mixer = registry.mixer.weights.source();
        let mixer = mixer.map_or(Ok(None), |source| planner.readable(source));
        let ((encoders, llm), mixer) = Error::both(models, mixer)?;
        let width = llm.info.width as usize;
        let mut registry = registry;
        name_plugins(&mut registry, &encoders, &llm);
        registry.check_tokens(&described(&registry, &encoders), width)?;
        // A mixer is a single file. No mixer is published in shards.
        let path = mixer.and_then(|paths| paths.into_iter().next());
        let fusion = planner.fusion(&registry, &encoders, llm.info.width)?;
        let shapes = shapes(&encoders);
        let mixer = PlannedMixer::new(&registry.mixer, fusion, &shapes, width, path.as_deref())?;
        Ok(Self {
            threads: planner.threads,
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

    /// Returns the output shapes of the encoders for the mixer.
    pub fn shapes(&self) -> Vec<EncoderShape> {
        shapes(&self.encoders)
    }
}

/// Replaces plugins that were chosen by their names, which a report of the model needs.
fn name_plugins(registry: &mut Registry, encoders: &[PlannedEncoder], llm: &PlannedLlm) {
    let planned = encoders
        .iter()
        .map(|planned| &planned.library)
        .chain([&llm.library]);
    let encoders = registry.encoders.iter_mut().map(|entry| &mut entry.plugin);
    let entries = encoders.chain([&mut registry.llm.plugin]);
    for (entry, library) in entries.zip(planned) {
        if !matches!(entry, PluginRef::Library { .. }) {
            *entry = PluginRef::Name(library.manifest().name.clone());
        }
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

/// Plans only the encoders of a registry that was read with [`LoadOptions::registry`], in the same way as
/// [`Plan::new`].
///
/// # Errors
///
/// Returns all problems with the encoders.
pub(crate) fn encoders(
    registry: &Registry,
    options: &LoadOptions,
    files: &Files,
) -> Result<Vec<PlannedEncoder>, Error> {
    let planner = Planner::new(&registry.path, options, files);
    Error::collect(registry.encoders.iter().map(|entry| planner.encoder(entry)))
}

/// Returns the output shape of an encoder for the mixer.
pub(crate) fn shape_of(info: &EncoderInfo) -> EncoderShape {
    EncoderShape {
        width: info.width as usize,
        temporal: info.temporal as usize,
        spatial: info.spatial as usize,
    }
}

/// Plans the models of a registry.
struct Planner<'f> {
    /// The registry file.
    registry: PathBuf,
    /// Keys whose values come from the command line, with their options.
    overridden: Vec<(&'static str, &'static str)>,
    files: &'f Files,
    plugins: Plugins,
    backend: Option<String>,
    threads: usize,
}

impl<'f> Planner<'f> {
    fn new(registry: &Path, options: &LoadOptions, files: &'f Files) -> Self {
        let device = options.device.map(|_| ("device", "--device"));
        let option = options.precision_option.unwrap_or("--precision");
        let dtype = options.precision.map(|_| ("dtype", option));
        let path = PluginPath::from_env(&options.plugin_folders);
        Self {
            registry: registry.to_owned(),
            overridden: device.into_iter().chain(dtype).collect(),
            files,
            plugins: Plugins::new(registry, path, options.threads()),
            backend: options.backend.clone(),
            threads: options.threads(),
        }
    }

    fn encoder(&self, entry: &EncoderEntry) -> Result<PlannedEncoder, Error> {
        let wanted = self.wanted(kind::ENCODER, &entry.id, entry.device);
        let (library, choice) = self.plugins.open(&entry.plugin, &wanted, &entry.lines)?;
        let known = check_id(&library, &entry.id, kind::ENCODER);
        let context = self.context(&library, &entry.id, &entry.lines);
        self.accept(wrong_device(&context, entry.device))?;
        let provided = library.manifest().provided(kind::ENCODER, &entry.id);
        let without_weights = provided.is_some_and(|provided| provided.without_weights);
        // For an unknown id, missing weights are not reported.
        let wanted = entry.weights.is_none() && !without_weights && known.is_ok();
        self.accept(wanted.then(|| context.no_weights()))?;
        let model = self.source(&ModelEntry {
            id: &entry.id,
            weights: entry.weights.as_ref(),
            config: entry.config.as_ref(),
            device: device_of(entry.device, library.manifest()),
            dtype: entry.dtype,
            options: &entry.options,
        })?;
        let mut request = EncoderRequest::new(model, entry.num_frames as u32);
        request.image_size = entry.image_size.map(|size| size as u32);
        let described = library.describe_encoder(&request);
        if let Err(unknown) = known {
            // The plugin's own error explains better than its list why the encoder does not exist.
            return Err(match described {
                Err(refusal) if refusal.failure.kind == ErrorKind::UNSUPPORTED => refusal.into(),
                _ => unknown,
            });
        }
        let info = self.answered(&context, described)?;
        let size = entry
            .image_size
            .filter(|&size| size != info.image_size() as usize);
        let size = size.map(|size| {
            let described = info.image_size().to_string();
            context.differs("image_size", &size.to_string(), &described)
        });
        self.accept_all(
            [
                size,
                wrong_dtype(&context, entry.dtype, info.dtype),
                other_device(&context, request.model.device, info.device),
            ],
            wrong_options(&context, &entry.options, &info.options),
        )?;
        Ok(PlannedEncoder {
            library: Arc::clone(&library),
            choice,
            request,
            info,
            without_weights,
        })
    }

    fn llm(&self, entry: &LlmEntry) -> Result<PlannedLlm, Error> {
        let wanted = self.wanted(kind::LLM, &entry.id, entry.device);
        let (library, choice) = self.plugins.open(&entry.plugin, &wanted, &entry.lines)?;
        check_id(&library, &entry.id, kind::LLM)?;
        let context = self.context(&library, &entry.id, &entry.lines);
        self.accept(wrong_device(&context, entry.device))?;
        if let Some(source) = entry.sizes_in_weights()
            && self.files.present(source)?.is_none()
        {
            let why = "it contains the sizes of the model";
            return Err(self.files.missing(source, why));
        }
        let request = LanguageModelRequest::new(self.source(&ModelEntry {
            id: &entry.id,
            weights: Some(&entry.weights),
            config: entry.config.as_ref(),
            device: device_of(entry.device, library.manifest()),
            dtype: entry.dtype,
            options: &entry.options,
        })?);
        let info = self.answered(&context, library.describe_llm(&request))?;
        self.accept_all(
            [
                wrong_dtype(&context, entry.dtype, info.dtype),
                other_device(&context, request.model.device, info.device),
            ],
            wrong_options(&context, &entry.options, &info.options),
        )?;
        self.readable(&entry.weights)?;
        Ok(PlannedLlm {
            library: Arc::clone(&library),
            choice,
            request,
            info,
        })
    }

    /// Plans the fusion or the whole mixer that a plugin brings, if the registry has one.
    fn fusion(
        &self,
        registry: &Registry,
        encoders: &[PlannedEncoder],
        llm_width: u32,
    ) -> Result<Option<FusionPlugin>, Error> {
        let Some(entry) = &registry.mixer.fusion_plugin else {
            return Ok(None);
        };
        let mixer = &registry.mixer.kind;
        let kind = match mixer.is_of_plugin() {
            true => kind::MIXER,
            false => kind::FUSION,
        };
        let wanted = self.wanted(kind, &entry.id, DeviceChoice::Auto);
        let (library, _) = self.plugins.open(&entry.plugin, &wanted, &entry.lines)?;
        check_id(&library, &entry.id, kind)?;
        let device = device_of(DeviceChoice::Auto, library.manifest());
        let mut model = ModelSource::new(&entry.id, device);
        model.options = entry.options.clone();
        let inputs = encoders.iter().map(|planned| {
            let (info, id) = (&planned.info, &planned.request.model.id);
            if mixer.is_of_plugin() {
                return MixerInput::new(id, info.width, [info.temporal, info.spatial]);
            }
            let shape = shape_of(info);
            let tokens = mixer.projected_tokens(shape.temporal, shape.spatial);
            let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            MixerInput::new(id, llm_width, [1, tokens])
        });
        let request = MixerRequest::new(model, inputs.collect(), llm_width);
        let context = self.context(&library, &entry.id, &entry.lines);
        let described = library.describe_mixer(kind, &request);
        let info = self.answered(&context, described)?;
        let (wanted, found) = (mixer.visual_feature_length, info.tokens as usize);
        let length = (wanted != found).then(|| {
            let found = found.to_string();
            context.differs("visual_feature_length", &wanted.to_string(), &found)
        });
        self.accept_all(
            [
                length,
                other_device(&context, request.model.device, info.device),
            ],
            wrong_options(&context, &entry.options, &info.options),
        )?;
        Ok(Some(FusionPlugin {
            library: Arc::clone(&library),
            request,
            info,
        }))
    }

    /// Returns the files of a source if they are on this machine. They are opened, so that damaged files are
    /// reported together with all other problems.
    fn readable(&self, source: &WeightSource) -> Result<Option<Vec<PathBuf>>, Error> {
        let paths = self.files.present(source)?;
        if let Some(paths) = &paths {
            Checkpoint::open(paths)?;
        }
        Ok(paths)
    }

    fn context<'a>(
        &self,
        library: &'a Library,
        id: &'a str,
        lines: &'a TableLines,
    ) -> RequestContext<'a> {
        RequestContext {
            lines,
            id,
            manifest: library.manifest(),
            overridden: self.overridden.clone(),
        }
    }

    /// Returns an error if there is a problem with the registry.
    fn accept(&self, problem: Option<Problem>) -> Result<(), Error> {
        match problem {
            None => Ok(()),
            Some(problem) => {
                let problems = Problems::new(&self.registry, vec![problem]);
                Err(RegistryError::from(problems).into())
            }
        }
    }

    /// Returns an error if there are problems with the registry.
    fn accept_all<const N: usize>(
        &self,
        problems: [Option<Problem>; N],
        more: impl Iterator<Item = Problem>,
    ) -> Result<(), Error> {
        let problems: Vec<Problem> = problems.into_iter().flatten().chain(more).collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(RegistryError::from(Problems::new(&self.registry, problems)).into()),
        }
    }

    fn wanted<'w>(&'w self, kind: &'w str, id: &'w str, device: DeviceChoice) -> Wanted<'w> {
        Wanted {
            kind,
            id,
            device: device.device(),
            backend: self.backend.as_deref(),
        }
    }

    /// Returns the plugin's description. A refusal is a problem with the registry, unless a file is the cause.
    fn answered<T>(
        &self,
        context: &RequestContext<'_>,
        answer: Result<T, CallError>,
    ) -> Result<T, Error> {
        answer.map_err(|error| match self.accept(context.refusal(&error)) {
            Err(problem) => problem,
            Ok(()) => error.into(),
        })
    }

    /// Returns the model's part of a request. It contains only the weights that are on this machine.
    fn source(&self, entry: &ModelEntry<'_>) -> Result<ModelSource, Error> {
        let config = entry.config.map(|source| {
            let path = self.files.path(source)?;
            utf8(&path).map(PathBuf::from)
        });
        let mut model = ModelSource::new(entry.id, entry.device);
        model.options = entry.options.clone();
        model.config = config.transpose()?;
        model.dtype = dtype_of(entry.dtype);
        let present = entry.weights.map(|weights| self.files.present(weights));
        let present = present.transpose()?.flatten().unwrap_or_default();
        set_weights(&mut model, &present)?;
        Ok(model)
    }
}

/// The keys that encoders and language models have in common.
struct ModelEntry<'e> {
    id: &'e str,
    weights: Option<&'e WeightSource>,
    config: Option<&'e WeightSource>,
    device: Device,
    dtype: DtypeChoice,
    options: &'e BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_a_parameter_has_four_bytes() {
        let mut model = ModelSource::new("x", Device::CPU);
        model.dtype = Some(DType::BF16);
        assert_eq!(stored_bytes(7, &model).unwrap(), 28);
        assert_eq!(stored_bytes(u64::MAX, &model).unwrap(), u64::MAX);
    }
}
