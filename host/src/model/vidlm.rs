//! The public face: a video-language model that answers about clips.

use crate::{
    Chat, Error, Observer, Stage,
    features::FeatureCache,
    generate::{self, Conversation, Prompter, Sampler, Sampling, Stop, Writing},
    mixer::{Mixed, Mixer},
    model::{
        dump::Dump,
        encoders::{Encoders, Features, Prepared, finite},
        files::Files,
        plan::{LoadOptions, Plan, PlannedLlm},
        published,
    },
    plugin::LanguageModel,
    prompt::Template,
    registry::{LlmEntry, PromptEntry, Registry, WeightSource},
    tokenizer::TextTokenizer,
    transform::Clip,
    video,
};
use candle_core::Tensor;
use merv_plugin_api::ModelSource;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// A loaded video-language model: encoders, mixer and language model.
pub struct VidLm {
    pub(crate) registry: Registry,
    encoders: Encoders,
    mixer: Mixer,
    pub(crate) llm: LanguageModel,
    pub(crate) prompter: Prompter,
    /// Computes the host's own part, the mixer.
    pool: ThreadPool,
    load_seconds: f64,
}

/// The parts of a [`VidLm`], to be trained.
pub(crate) struct Parts {
    pub(crate) registry: Registry,
    pub(crate) encoders: Encoders,
    pub(crate) mixer: Mixer,
    pub(crate) llm: LanguageModel,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) pool: ThreadPool,
}

/// What of a video is looked at.
#[derive(Debug, Clone, Default)]
pub struct VideoOptions {
    /// Where to begin, in seconds.
    pub start: Option<f64>,
    /// Where to end, in seconds.
    pub end: Option<f64>,
    /// When not negative: frames up to this one, whatever start and end say.
    pub end_frame: Option<i64>,
    /// Frames per second of a folder of images.
    pub folder_fps: Option<f64>,
    /// What start and end mean in a video of variable frame rate.
    pub seconds: video::Seconds,
    /// What reading the file may cost.
    pub limits: video::Limits,
}

/// How an answer is made.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// What of the video is looked at.
    pub video: VideoOptions,
    /// How tokens are picked.
    pub sampling: Sampling,
    /// How long the answer may and must be.
    pub limits: generate::Limits,
    /// Where to write everything between video and first token, as safetensors.
    pub dump: Option<PathBuf>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            video: VideoOptions::default(),
            sampling: Sampling::default(),
            limits: generate::Limits {
                max_new_tokens: 512,
                min_length: 1,
                min_new_tokens: 0,
            },
            dump: None,
        }
    }
}

/// A clip as the language model will see it, and everything on the way there. Made once, it serves many
/// prompts.
pub struct Visual {
    /// Ids of the encoders, in order.
    pub encoder_ids: Vec<String>,
    /// Numbers of the frames that were sampled; none if all features came from a cache.
    pub frame_indices: Vec<usize>,
    /// What each encoder saw, unless its features came from a cache.
    pub clips: Vec<Option<Arc<Clip>>>,
    /// What each encoder gave: `[1, T·S, D]`.
    pub features: Vec<Tensor>,
    /// What the mixer made of it.
    pub mixed: Mixed,
    /// Seconds by stage.
    pub timings: BTreeMap<Stage, f64>,
}

impl Visual {
    /// How much each encoder counts, by its id; nothing where the fusion does not weigh them.
    ///
    /// # Errors
    ///
    /// When the weights are not numbers of `f32`, which the mixer rules out.
    pub fn mixer_weights(&self) -> Result<Vec<(String, f32)>, Error> {
        let Some(weights) = &self.mixed.weights else {
            return Ok(Vec::new());
        };
        let weights = weights.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.encoder_ids.iter().cloned().zip(weights).collect())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The text, stripped.
    pub text: String,
    /// The ids of its tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt, with the chat format around it.
    pub prompt_tokens: usize,
    /// Tokens that stand for the clip.
    pub visual_tokens: usize,
    /// How much each encoder counted, in the registry's order; nothing where the fusion does not weigh
    /// them.
    pub mixer_weights: Vec<(String, f32)>,
    /// Seconds by stage.
    pub timings: BTreeMap<Stage, f64>,
}

impl VidLm {
    /// Loads the model that a registry describes: a FILE, or the NAME of one.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the registry, its plugins and their files.
    pub fn load(registry: impl AsRef<Path>) -> Result<Self, Error> {
        Self::load_with(registry, &LoadOptions::default(), &mut ())
    }

    /// As [`Self::load`], with options, watched.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_with(
        registry: impl AsRef<Path>,
        options: &LoadOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let registry = options.registry(registry)?;
        let mut files = Files::new(&registry, &options.hub);
        published::fetch(&registry, &files, observer)?;
        files.locate(registry.sources(), observer)?;
        files.download(registry.sources_of_sizes(), observer)?;
        // That the parts fit is known before the weights are downloaded.
        let plan = Plan::with(registry, options, &files)?;
        files.download(plan.registry.sources(), observer)?;
        Self::assemble(plan, &files, observer)
    }

    /// The files of a model that are not on this machine.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn missing(registry: Registry, options: &LoadOptions) -> Result<Vec<String>, Error> {
        let files = Files::new(&registry, &options.hub);
        let plan = Plan::with(registry, options, &files)?;
        files.absent(&plan.registry)
    }

    /// Whether a model can be loaded, by loading it. Nothing is downloaded: if files are missing on this machine,
    /// nothing is loaded, and their names are returned.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], but for missing files.
    pub fn check(registry: Registry, options: &LoadOptions) -> Result<Vec<String>, Error> {
        let loaded = Self::load_present(registry, options)?;
        Ok(loaded.err().unwrap_or_default())
    }

    /// Loads a model as far as its files are on this machine: all of it, or the names of the files that are missing.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], but for missing files.
    pub(crate) fn load_present(
        registry: Registry,
        options: &LoadOptions,
    ) -> Result<Result<Self, Vec<String>>, Error> {
        let files = Files::new(&registry, &options.hub);
        let plan = Plan::with(registry, options, &files)?;
        let missing = files.absent(&plan.registry)?;
        match missing.is_empty() {
            true => Self::assemble(plan, &files, &mut ()).map(Ok),
            false => Ok(Err(missing)),
        }
    }

    /// Loads a model whose files are all on this machine.
    fn assemble(plan: Plan, files: &Files, observer: &mut dyn Observer) -> Result<Self, Error> {
        let started = Instant::now();
        let (shapes, width) = (plan.shapes(), plan.llm.info.width as usize);
        let Plan {
            registry,
            encoders,
            llm,
            threads,
            ..
        } = plan;
        let parts = encoders.len() + 2;
        observer.progress(Stage::Load, "mixer", 0, parts);
        let mixer = registry.mixer.weights.source();
        let mixer = mixer.map(|source| files.path(source)).transpose();
        let mixer = mixer.and_then(|path| {
            let path = path.as_deref();
            Ok(Mixer::load(&registry.mixer, &shapes, width, path)?)
        });
        let tokenizer = files.path(&registry.llm.tokenizer);
        let tokenizer = tokenizer.and_then(|path| {
            let tokenizer = TextTokenizer::load(&path)?;
            Ok(if registry.llm.split_special_tokens {
                tokenizer.splitting_special_tokens()?
            } else {
                tokenizer
            })
        });
        let writing = match &registry.llm.prompt {
            PromptEntry::Format(format) => Ok(Writing::Format(*format)),
            PromptEntry::Template(source) => files
                .path(source)
                .and_then(|path| Ok(Writing::Template(Box::new(Template::load(&path)?)))),
        };
        let encoders = Encoders::assemble(&registry, encoders, files, threads, &mut |index, id| {
            observer.progress(Stage::Load, id, index + 1, parts);
        });
        observer.progress(Stage::Load, &registry.llm.id, parts - 1, parts);
        let PlannedLlm {
            library,
            request: mut llm_request,
            ..
        } = llm;
        let llm = files.paths(&registry.llm.weights).and_then(|paths| {
            name_weights(&mut llm_request.model, &paths)?;
            Ok(library.load_llm(&llm_request)?)
        });
        let ((mixer, (tokenizer, writing)), (encoders, llm)) = Error::both(
            Error::both(mixer, Error::both(tokenizer, writing)),
            Error::both(encoders, llm),
        )?;
        let info = llm.info();
        registry.check_tokenizer(tokenizer.ordinary_tokens(), info.vocab_size as usize)?;
        let ends = (info.bos.into_option(), info.eos.first().copied());
        let LlmEntry {
            system_prompt,
            marks,
            ..
        } = &registry.llm;
        let prompter = Prompter::new(writing, system_prompt.clone(), *marks, tokenizer, ends);
        // A template that cannot write any message is refused before a video is decoded.
        prompter.ask(&Conversation::default(), "?")?;
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let load_seconds = started.elapsed().as_secs_f64();
        Ok(Self {
            registry,
            encoders,
            mixer,
            llm,
            prompter,
            pool,
            load_seconds,
        })
    }

    /// What it is made of.
    pub(crate) fn into_parts(self) -> Parts {
        Parts {
            registry: self.registry,
            encoders: self.encoders,
            mixer: self.mixer,
            llm: self.llm,
            tokenizer: self.prompter.into_tokenizer(),
            pool: self.pool,
        }
    }

    /// The registry it was loaded from.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Its encoders, for whoever wants to prepare videos on other threads: see [`Self::see_prepared`].
    pub fn encoders(&self) -> &Encoders {
        &self.encoders
    }

    /// Tokens that stand for a clip.
    pub fn visual_tokens(&self) -> usize {
        let kind = self.registry.mixer.kind;
        let projected = self
            .encoders
            .infos()
            .map(|info| kind.projected_tokens(info.temporal as usize, info.spatial as usize));
        kind.visual_tokens(&projected.collect::<Vec<_>>())
    }

    /// Answers `prompt` about the video at `video`.
    ///
    /// # Errors
    ///
    /// When the video cannot be read, the prompt does not fit, or a plugin fails.
    pub fn generate(
        &self,
        video: impl AsRef<Path>,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<Reply, Error> {
        self.generate_with(video, prompt, options, &mut ())
    }

    /// As [`Self::generate`], watched: the text is handed on as it grows.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`].
    pub fn generate_with(
        &self,
        video: impl AsRef<Path>,
        prompt: &str,
        options: &GenerateOptions,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        // What is cheap to refuse is refused before a video is decoded.
        Sampler::new(options.sampling)?;
        self.ask(&Conversation::default(), prompt, self.visual_tokens())?;
        let dump = self.begin_dump(options, Some(video.as_ref()))?;
        let visual = self.see(video.as_ref(), &options.video, observer)?;
        self.reply(&visual, prompt, options, dump, observer)
    }

    /// Turns a video into visual tokens.
    ///
    /// # Errors
    ///
    /// When the video cannot be read or a plugin fails.
    pub fn see(
        &self,
        video: impl AsRef<Path>,
        options: &VideoOptions,
        observer: &mut dyn Observer,
    ) -> Result<Visual, Error> {
        self.see_cached(video.as_ref(), options, None, observer)
    }

    /// As [`Self::see`], with features that were computed before where the cache has them, and kept there
    /// where it has not. If it has all, the video is not even decoded.
    ///
    /// # Errors
    ///
    /// As [`Self::see`], and when the features cannot be kept.
    pub fn see_cached(
        &self,
        video: &Path,
        options: &VideoOptions,
        cache: Option<&FeatureCache>,
        observer: &mut dyn Observer,
    ) -> Result<Visual, Error> {
        let prepared = self.encoders.prepare(video, options, cache, observer)?;
        self.see_prepared(prepared, cache, observer)
    }

    /// Turns a video that [`Encoders::prepare`] prepared, perhaps on another thread while this model was
    /// busy, into visual tokens.
    ///
    /// # Errors
    ///
    /// When a plugin fails or the features cannot be kept.
    pub fn see_prepared(
        &self,
        prepared: Prepared,
        cache: Option<&FeatureCache>,
        observer: &mut dyn Observer,
    ) -> Result<Visual, Error> {
        let Features {
            tensors,
            clips,
            frame_indices,
            mut timings,
            ..
        } = self.encoders.encode(prepared, cache, observer)?;
        let watch = Instant::now();
        observer.progress(Stage::Mix, "features", 0, 1);
        let mixed = self.pool.install(|| self.mixer.forward(&tensors))?;
        // Nobody goes back through it here, so that what it was made of can go.
        let mixed = mixed.detach();
        finite(&mixed.fused, "the mixer", &self.registry.mixer.weights)?;
        timings.insert(Stage::Mix, watch.elapsed().as_secs_f64());
        Ok(Visual {
            encoder_ids: self.encoders.ids().map(str::to_owned).collect(),
            frame_indices,
            clips,
            features: tensors,
            mixed,
            timings,
        })
    }

    /// Answers `prompt` about a clip that was seen.
    ///
    /// # Errors
    ///
    /// When the prompt does not fit or the language model fails.
    pub fn answer(
        &self,
        visual: &Visual,
        prompt: &str,
        options: &GenerateOptions,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        let dump = self.begin_dump(options, None)?;
        self.reply(visual, prompt, options, dump, observer)
    }

    /// Begins the dump that is asked for, which must not replace the video or a file of the model.
    pub(crate) fn begin_dump(
        &self,
        options: &GenerateOptions,
        video: Option<&Path>,
    ) -> Result<Option<Dump>, Error> {
        let Some(dump) = &options.dump else {
            return Ok(None);
        };
        let sources = self.registry.sources().filter_map(|source| match source {
            WeightSource::Local { path, .. } => Some(path.as_path()),
            _ => None,
        });
        let inputs: Vec<&Path> = video
            .into_iter()
            .chain([self.registry.path.as_path()])
            .chain(sources)
            .collect();
        Dump::create(dump, &inputs).map(Some)
    }

    /// A conversation about a clip that was seen: each turn goes on where the one before ended.
    pub fn chat<'m>(&'m self, visual: &'m Visual) -> Chat<'m> {
        Chat::new(self, visual)
    }

    /// One turn, with the times of all stages.
    fn reply(
        &self,
        visual: &Visual,
        prompt: &str,
        options: &GenerateOptions,
        dump: Option<Dump>,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        let mut reply = self.chat(visual).turn(prompt, options, dump, observer)?;
        reply.timings.extend(&visual.timings);
        reply.timings.insert(Stage::Load, self.load_seconds);
        Ok(reply)
    }

    /// Seconds that loading took.
    pub fn load_seconds(&self) -> f64 {
        self.load_seconds
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
