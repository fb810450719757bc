//! Planning one model: its plugin is opened and describes it, and the description is compared with the registry.

use super::{
    mixer::PlannedFusion,
    options::LoadOptions,
    planned::{PlannedEncoder, PlannedLlm, shape_of},
    plugins::Plugins,
    requested::{
        check_id, device_of, dtype_of, other_device, wrong_device, wrong_dtype, wrong_options,
    },
};
use crate::{
    Error,
    mixer::FusionPlugin,
    model::files::{Files, set_weights, utf8},
    plugin::{CallError, Library, PluginPath, Wanted},
    registry::{
        DeviceChoice, DtypeChoice, EncoderEntry, LlmEntry, Problem, Problems, Registry,
        RegistryError, RequestContext, TableLines, WeightSource,
    },
};
use merv_checkpoint::Checkpoint;
use merv_plugin_api::{
    Device, EncoderRequest, ErrorKind, LanguageModelRequest, MixerInput, MixerRequest, ModelSource,
    kind,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Plans the models of a registry.
pub(super) struct Planner<'f> {
    /// The registry file.
    registry: PathBuf,
    /// Keys whose values come from the command line, with their options.
    overridden: Vec<(&'static str, &'static str)>,
    files: &'f Files,
    plugins: Plugins,
    backend: Option<String>,
    pub(super) threads: usize,
}

impl<'f> Planner<'f> {
    pub(super) fn new(registry: &Path, options: &LoadOptions, files: &'f Files) -> Self {
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

    pub(super) fn encoder(&self, entry: &EncoderEntry) -> Result<PlannedEncoder, Error> {
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

    pub(super) fn llm(&self, entry: &LlmEntry) -> Result<PlannedLlm, Error> {
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
    pub(super) fn fusion(
        &self,
        registry: &Registry,
        encoders: &[PlannedEncoder],
        llm_width: u32,
    ) -> Result<Option<PlannedFusion>, Error> {
        let Some(entry) = &registry.mixer.fusion_plugin else {
            return Ok(None);
        };
        let mixer = &registry.mixer.kind;
        let kind = match mixer.is_of_plugin() {
            true => kind::MIXER,
            false => kind::FUSION,
        };
        let wanted = self.wanted(kind, &entry.id, DeviceChoice::Auto);
        let (library, choice) = self.plugins.open(&entry.plugin, &wanted, &entry.lines)?;
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
        let plugin = FusionPlugin {
            library: Arc::clone(&library),
            request,
            info,
        };
        Ok(Some(PlannedFusion { plugin, choice }))
    }

    /// Returns the files of a source if they are on this machine. They are opened, so that damaged files are
    /// reported together with all other problems.
    pub(super) fn readable(&self, source: &WeightSource) -> Result<Option<Vec<PathBuf>>, Error> {
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
