//! The main type of the public API: a video-language model that answers questions about clips.

use super::{
    answers::{Answer, AnswerOptions, Prefix, PrefixedPrompt},
    chat::{Chat, Reply},
    dump::Dump,
    encoders::{Encoders, Features, Prepared, check_finite},
    files::{Files, set_weights},
    options::{GenerateOptions, VideoOptions},
    plan::{LoadOptions, Plan, PlannedLlm},
    published,
    responder::Responder,
    visual::Visual,
};
use crate::{
    Error, Observer, Stage,
    features::FeatureCache,
    generate::{Conversation, PromptStyle, Prompter, Sampler},
    mixer::Mixer,
    plugin::LanguageModel,
    prompt::Template,
    registry::{LlmEntry, PromptEntry, Registry},
    tokenizer::TextTokenizer,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{path::Path, time::Instant};

/// A loaded video-language model: encoders, mixer and language model.
pub struct VidLm {
    registry: Registry,
    encoders: Encoders,
    mixer: Mixer,
    responder: Responder,
    /// The threads of the mixer.
    pool: ThreadPool,
    load_seconds: f64,
}

/// The parts of a [`VidLm`], for training.
pub(crate) struct VidLmParts {
    pub(crate) registry: Registry,
    pub(crate) encoders: Encoders,
    pub(crate) mixer: Mixer,
    pub(crate) llm: LanguageModel,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) pool: ThreadPool,
}

impl VidLm {
    /// Loads the model of a registry, given as a FILE or NAME.
    ///
    /// # Errors
    ///
    /// Returns all problems with the registry, its plugins and their files.
    pub fn load(registry: impl AsRef<Path>) -> Result<Self, Error> {
        Self::load_with(registry, &LoadOptions::default(), &mut ())
    }

    /// Does the same as [`Self::load`], with options and an observer.
    ///
    /// # Errors
    ///
    /// The same as [`Self::load`].
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
        // Checks that the parts fit together before the weights are downloaded.
        let plan = Plan::with(registry, options, &files)?;
        files.download(plan.registry.sources(), observer)?;
        Self::assemble(plan, &files, observer)
    }

    /// Returns the names of the files of a model that are not on this machine.
    ///
    /// # Errors
    ///
    /// The same as [`Plan::new`].
    pub fn missing(registry: Registry, options: &LoadOptions) -> Result<Vec<String>, Error> {
        let files = Files::new(&registry, &options.hub);
        let plan = Plan::with(registry, options, &files)?;
        files.absent(&plan.registry)
    }

    /// Checks whether a model can be loaded by loading it. Nothing is downloaded. If files are missing on this
    /// machine, nothing is loaded, and their names are returned.
    ///
    /// # Errors
    ///
    /// The same as [`Self::load`], except for missing files.
    pub fn check(registry: Registry, options: &LoadOptions) -> Result<Vec<String>, Error> {
        let loaded = Self::load_present(registry, options)?;
        Ok(loaded.err().unwrap_or_default())
    }

    /// Loads a model if all its files are on this machine. Otherwise returns the names of the missing files.
    ///
    /// # Errors
    ///
    /// The same as [`Self::load`], except for missing files.
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
            mixer: planned_mixer,
            ..
        } = plan;
        let parts = encoders.len() + 2;
        observer.progress(Stage::Load, "mixer", 0, parts);
        let mixer = registry.mixer.weights.source();
        let mixer = mixer.map(|source| files.path(source)).transpose();
        let mixer = mixer.and_then(|path| {
            let path = path.as_deref();
            let fusion = planned_mixer.fusion.as_ref().map(|fusion| &fusion.plugin);
            Ok(Mixer::load(&registry.mixer, fusion, &shapes, width, path)?)
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
            PromptEntry::Format(format) => Ok(PromptStyle::Format(*format)),
            PromptEntry::Template(source) => files
                .path(source)
                .and_then(|path| Ok(PromptStyle::Template(Box::new(Template::load(&path)?)))),
        };
        let encoders = Encoders::assemble(&registry, encoders, files, threads, &mut |index, id| {
            observer.progress(Stage::Load, id, index + 1, parts);
        });
        observer.progress(Stage::Load, &registry.llm.id, parts - 1, parts);
        let PlannedLlm {
            library,
            request: mut llm_request,
            info: described,
            ..
        } = llm;
        let llm = files.paths(&registry.llm.weights).and_then(|paths| {
            set_weights(&mut llm_request.model, &paths)?;
            Ok(library.load_llm(&llm_request, &described)?)
        });
        let ((mixer, (tokenizer, writing)), (encoders, llm)) = Error::both(
            Error::both(mixer, Error::both(tokenizer, writing)),
            Error::both(encoders, llm),
        )?;
        let info = llm.info();
        registry.check_tokenizer(tokenizer.ordinary_tokens(), info.vocab_size as usize)?;
        let ends = (info.bos, info.eos.first().copied());
        let LlmEntry {
            system_prompt,
            marks,
            ..
        } = &registry.llm;
        let prompter = Prompter::new(writing, system_prompt.clone(), *marks, tokenizer, ends);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let responder = Responder {
            entry: registry.llm.clone(),
            llm,
            prompter,
        };
        let load_seconds = started.elapsed().as_secs_f64();
        let model = Self {
            registry,
            encoders,
            mixer,
            responder,
            pool,
            load_seconds,
        };
        // A model that no prompt fits is refused before a video is decoded.
        let ids = model.responder.shortest(model.visual_tokens())?;
        let tokens = ids.into_iter().max().map_or(0, |id| id as usize + 1);
        let rows = model.responder.llm.info().vocab_size as usize;
        model.registry.check_tokenizer(tokens, rows)?;
        Ok(model)
    }

    /// Returns the parts of the model.
    pub(crate) fn into_parts(self) -> VidLmParts {
        VidLmParts {
            registry: self.registry,
            encoders: self.encoders,
            mixer: self.mixer,
            llm: self.responder.llm,
            tokenizer: self.responder.prompter.into_tokenizer(),
            pool: self.pool,
        }
    }

    /// Returns the registry of the model.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the encoders. They can prepare videos on other threads: see [`Self::see_prepared`].
    pub fn encoders(&self) -> &Encoders {
        &self.encoders
    }

    /// Returns the number of visual tokens of a clip.
    pub fn visual_tokens(&self) -> usize {
        self.encoders.visual_tokens(self.registry.mixer.kind)
    }

    /// Answers `prompt` about the video at `video`.
    ///
    /// # Errors
    ///
    /// Returns an error if the video cannot be read, the prompt is too long, or a plugin fails.
    pub fn generate(
        &self,
        video: impl AsRef<Path>,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<Reply, Error> {
        self.generate_with(video, prompt, options, &mut ())
    }

    /// Does the same as [`Self::generate`] with an observer, which receives the text while it is generated.
    ///
    /// # Errors
    ///
    /// The same as [`Self::generate`].
    pub fn generate_with(
        &self,
        video: impl AsRef<Path>,
        prompt: &str,
        options: &GenerateOptions,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        // Wrong settings and long prompts are refused before the video is decoded.
        Sampler::new(options.sampling)?;
        self.responder
            .ask(&Conversation::default(), prompt, self.visual_tokens())?;
        let dump = Dump::begin(options, &self.registry, Some(video.as_ref()))?;
        let visual = self.see(video.as_ref(), &options.video, observer)?;
        self.reply(&visual, prompt, options, dump, observer)
    }

    /// Computes the visual tokens of a video.
    ///
    /// # Errors
    ///
    /// Returns an error if the video cannot be read or a plugin fails.
    pub fn see(
        &self,
        video: impl AsRef<Path>,
        options: &VideoOptions,
        observer: &mut dyn Observer,
    ) -> Result<Visual, Error> {
        self.see_cached(video.as_ref(), options, None, observer)
    }

    /// Does the same as [`Self::see`] with a feature cache. Features in the cache are reused, and other features
    /// are stored there. If the cache has all features, the video is not decoded.
    ///
    /// # Errors
    ///
    /// The same as [`Self::see`]. Also returns an error if the features cannot be stored.
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

    /// Computes the visual tokens of a video that was prepared with [`Encoders::prepare`]. Videos can be
    /// prepared on another thread while this model is busy.
    ///
    /// # Errors
    ///
    /// Returns an error if a plugin fails or the features cannot be stored.
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
        // There is no backward pass here, so the intermediate tensors can be freed.
        let mixed = mixed.detach();
        check_finite(&mixed.fused, "the mixer", &self.registry.mixer.weights)?;
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

    /// Answers `prompt` about the visual tokens of a clip.
    ///
    /// # Errors
    ///
    /// Returns an error if the prompt is too long or the language model fails.
    pub fn answer(
        &self,
        visual: &Visual,
        prompt: &str,
        options: &GenerateOptions,
        observer: &mut dyn Observer,
    ) -> Result<Reply, Error> {
        let dump = Dump::begin(options, &self.registry, None)?;
        self.reply(visual, prompt, options, dump, observer)
    }

    /// Starts a conversation about the visual tokens of a clip.
    pub fn chat<'m>(&'m self, visual: &'m Visual) -> Chat<'m> {
        Chat::new(&self.responder, &self.registry, visual)
    }

    /// Reads a clip for any number of questions.
    ///
    /// # Errors
    ///
    /// Returns an error if the language model fails.
    pub fn prefix(&self, visual: &Visual) -> Result<Prefix<'_>, Error> {
        self.responder.prefix(visual)
    }

    /// Reads the start of a prompt without a clip.
    ///
    /// # Errors
    ///
    /// Returns an error if the language model fails.
    pub fn text_prefix(&self) -> Result<Prefix<'_>, Error> {
        self.responder.text_prefix()
    }

    /// Answers many questions in one batch. Each answer is the same as that of [`Self::answer`]. For a question
    /// that is too long, the list contains an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the sampling settings are not valid or the language model fails.
    pub fn answer_many(
        &self,
        asks: &[PrefixedPrompt<'_, '_>],
        options: &AnswerOptions,
    ) -> Result<Vec<Result<Answer, Error>>, Error> {
        self.responder.answer_many(asks, options)
    }

    /// Returns the ids that can represent `text` as the first token of a reply. Most tokenizers have one token
    /// for the start of a word and another for its continuation.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer fails.
    pub fn first_tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.responder.first_tokens(text)
    }

    /// Generates a reply, and adds the timings of all stages.
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

    /// Returns the seconds that loading took.
    pub fn load_seconds(&self) -> f64 {
        self.load_seconds
    }
}
