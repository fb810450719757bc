//! Checks before the first step. A run and its dry run make the same ones.

use super::{
    Schedule, Settings, TrainError, TrainingStage,
    checkpoint::State,
    data::{BrokenExample, DataError, Entry, ExampleTokenizer, Index},
};
use crate::{
    counted,
    features::FeatureCache,
    mixer::{CoreMixer, Mixer},
    model::encoders::Encoders,
    plugin::{CallError, LanguageModel, Training},
    prompt::PromptFormat,
    registry::{LlmEntry, PromptEntry, Registry},
    tokenizer::TextTokenizer,
};
use merv_plugin_api::TrainingOptions;
use rayon::{
    ThreadPool,
    iter::{IntoParallelRefIterator, ParallelIterator},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Maximum number of broken examples that an error lists.
pub(super) const MAX_LISTED: usize = 5;

/// The examples of a run, and the held-out examples.
pub(super) struct DataSets {
    pub(super) index: Index,
    pub(super) validation: Option<Index>,
}

impl DataSets {
    /// Reads the files once, for the chat format of `llm`.
    pub(super) fn read(settings: &Settings, llm: &LlmEntry) -> Result<Self, TrainError> {
        let format = format(llm)?;
        let read = |path: &Path| Index::read_for(path, settings.stage.task(), Some(format));
        let index = read(&settings.data)?;
        let validation = settings.validation.as_deref().map(read).transpose()?;
        Ok(Self { index, validation })
    }
}

/// Returns the chat format, which has to be one that writes each turn separately.
pub(super) fn format(llm: &LlmEntry) -> Result<PromptFormat, TrainError> {
    match &llm.prompt {
        PromptEntry::Format(format) => Ok(*format),
        PromptEntry::Template(_) => Err(TrainError::Template(llm.prompt.to_string())),
    }
}

/// Returns the maximum number of text tokens of an example, next to `visual` tokens in a context of `context`
/// tokens.
pub(super) fn text_length(
    settings: &Settings,
    llm: &LlmEntry,
    visual: usize,
    context: usize,
) -> Result<usize, TrainError> {
    let room = context.saturating_sub(visual);
    if room < 2 {
        return Err(TrainError::NoRoom { visual, context });
    }
    if let Some(length) = settings.max_length.filter(|&length| length > context) {
        return Err(TrainError::LongerThanContext {
            length,
            llm: llm.id.clone(),
            context,
        });
    }
    Ok(settings.max_length.unwrap_or(llm.max_length).min(room))
}

/// Returns a warning if examples are cut to `max_length` before their first reply begins. A run learns nothing
/// from them.
///
/// # Errors
///
/// When all examples are cut like this.
pub(super) fn cut_short(
    index: &Index,
    form: &ExampleTokenizer,
    pool: &ThreadPool,
) -> Result<Option<String>, TrainError> {
    let is_cut = |entry: &&Entry| -> Result<bool, DataError> {
        let left = form.leaves_something(&index.example(entry)?);
        // Broken examples are reported elsewhere.
        Ok(!left.unwrap_or(true))
    };
    let found = pool.install(|| {
        let entries = index.entries().par_iter();
        let cut = entries.filter_map(|entry| match is_cut(&entry) {
            Ok(false) => None,
            Ok(true) => Some(Ok(entry)),
            Err(error) => Some(Err(error)),
        });
        cut.collect::<Result<Vec<_>, _>>()
    })?;
    let (Some(first), total) = (found.first(), index.entries().len()) else {
        return Ok(None);
    };
    let (name, length) = (index.name(first), form.max_length);
    if found.len() == total {
        return Err(TrainError::NothingLeft {
            path: index.path().to_owned(),
            length,
        });
    }
    Ok(Some(format!(
        "{} of {total} examples have no reply within `max_length = {length}` tokens, and nothing is learned from \
         them; the first: {name}",
        found.len()
    )))
}

/// Returns a notice if examples have an empty `image` or `video`.
pub(super) fn empty_media(index: &Index) -> Option<String> {
    let count = index.empty_media();
    (count > 0).then(|| {
        format!(
            "{}: {count} of {} examples have `null` or an empty list as their `image` or `video`; they are used as \
             text only",
            index.path().display(),
            index.entries().len()
        )
    })
}

/// The warning about a run whose learning rate is 0 in every step.
pub(super) fn learns_nothing(schedule: &Schedule) -> Option<String> {
    let why = match schedule.peak == 0.0 {
        true => "`learning_rate` is 0: nothing is learned; do: set it above 0".to_owned(),
        false => format!(
            "the learning rate of the first step is 0, and the run has {}: nothing is learned; do: raise `epochs` or \
             `max_steps`, or lower `global_batch`",
            counted(schedule.total, "step")
        ),
    };
    schedule.is_zero().then_some(why)
}

/// Checks that the run in the folder `run` can be resumed from a checkpoint, for `total` steps in all.
pub(super) fn resumable(
    state: &State,
    index: &Index,
    run: &Path,
    total: u64,
) -> Result<(), TrainError> {
    if state.data_sha256 != index.sha256() {
        return Err(TrainError::OtherData {
            path: index.path().to_owned(),
            expected: state.data_sha256.clone(),
            found: index.sha256().to_owned(),
        });
    }
    if total < state.step {
        return Err(TrainError::TooShort {
            path: run.to_owned(),
            done: state.step,
            total,
        });
    }
    Ok(())
}

/// Returns how examples become tokens, at most `max_length` of them.
pub(super) fn example_tokenizer(
    settings: &Settings,
    llm: &LlmEntry,
    tokenizer: &Arc<TextTokenizer>,
    max_length: usize,
) -> Result<ExampleTokenizer, TrainError> {
    Ok(ExampleTokenizer {
        tokenizer: Arc::clone(tokenizer),
        format: format(llm)?,
        marks: llm.marks,
        system: llm.system_prompt.clone(),
        task: settings.stage.task(),
        max_length,
    })
}

/// Checks that at most `fraction` of the examples are broken: those that the index found, and `more`.
pub(super) fn check_broken_fraction(
    index: &Index,
    more: usize,
    fraction: f64,
    latest: &[BrokenExample],
) -> Result<(), DataError> {
    let (broken, total) = (index.broken_count() + more, index.total());
    if broken as f64 <= fraction * total as f64 {
        return Ok(());
    }
    let latest = latest.iter().rev().take(MAX_LISTED).rev();
    let latest = latest.map(|broken| format!("\n  {}: {}", broken.name, broken.why));
    Err(DataError::TooManyBroken {
        broken,
        total,
        fraction,
        latest: latest.collect(),
    })
}

/// Returns the folder of the feature cache, if the stage uses one. Checks that it is a cache or does not exist yet.
pub(super) fn feature_cache(settings: &Settings) -> Result<Option<&PathBuf>, TrainError> {
    let folder = settings.feature_cache.as_ref();
    let folder = folder.filter(|_| !settings.stage.trains_encoders());
    if let Some(folder) = folder {
        FeatureCache::check(folder)?;
    }
    Ok(folder)
}

/// The training interfaces that a stage needs: the language model's, and the encoders' if it trains them.
pub(super) struct Trainings {
    pub(super) llm: Training,
    /// One for every encoder, or empty.
    pub(super) encoders: Vec<Training>,
}

impl Trainings {
    /// Gets them from the plugins.
    pub(super) fn new(
        stage: TrainingStage,
        registry: &Registry,
        llm: &LanguageModel,
        encoders: &Encoders,
    ) -> Result<Self, TrainError> {
        let of_llm = |error| of_llm(stage, registry, error);
        let llm = llm.training().map_err(of_llm)?;
        let entries = registry.encoders.iter().enumerate();
        let entries = entries.filter(|_| stage.trains_encoders());
        let trainings = entries.filter_map(|(index, entry)| {
            let training = encoders.encoder(index)?.training();
            let training = training.map_err(|error| of_encoder(stage, &entry.id, error));
            let has_weights = !encoders.weight_files(index).is_empty();
            Some(training.and_then(|training| match has_weights {
                true => Ok(training),
                false => Err(TrainError::WithoutWeights {
                    stage,
                    id: entry.id.clone(),
                }),
            }))
        });
        Ok(Self {
            llm,
            encoders: trainings.collect::<Result<_, _>>()?,
        })
    }

    /// Prepares the models for training. Models for which `trains` returns false only check that they could be
    /// trained, because training copies a model into memory.
    pub(super) fn begin(
        &self,
        settings: &Settings,
        registry: &Registry,
        trains: impl Fn(PluginModel) -> bool,
    ) -> Result<(), TrainError> {
        let stage = settings.stage;
        let options = |part| {
            TrainingOptions::new(trains(part))
                .checkpoint_activations(settings.gradient_checkpointing)
        };
        let begun = self.llm.begin(&options(PluginModel::Llm));
        begun.map_err(|error| of_llm(stage, registry, error))?;
        for (index, (training, entry)) in self.encoders.iter().zip(&registry.encoders).enumerate() {
            let begun = training.begin(&options(PluginModel::Encoder(index)));
            begun.map_err(|error| of_encoder(stage, &entry.id, error))?;
        }
        Ok(())
    }
}

/// A model of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PluginModel {
    Llm,
    Encoder(usize),
}

/// Prepares the mixer for training, which every stage trains.
///
/// # Errors
///
/// When its fusion is of a plugin and cannot be trained.
pub(super) fn begin_mixer(
    stage: TrainingStage,
    mixer: Mixer,
    registry: &Registry,
) -> Result<Arc<CoreMixer>, TrainError> {
    let mixer = CoreMixer::new(mixer);
    let options = TrainingOptions::new(true).input_gradients(stage.trains_encoders());
    let begun = mixer.begin(&options).map(|()| Arc::new(mixer));
    begun.map_err(|source| TrainError::Untrainable {
        what: format!(
            "training trains the mixer, and its fusion `{}` cannot be trained",
            registry.mixer.fusion_name()
        ),
        remedy: "choose a fusion that can be trained",
        source: Box::new(source),
    })
}

fn of_llm(stage: TrainingStage, registry: &Registry, source: CallError) -> TrainError {
    let id = &registry.llm.id;
    let (what, remedy) = match stage.trains_llm() {
        true => (
            format!("`{stage}` trains the language model, and `{id}` cannot be trained"),
            "train only the mixer with `--stage align`, or choose another language model or other weights for it",
        ),
        false => (
            format!(
                "`{stage}` trains the mixer with gradients through the language model, and `{id}` does not compute \
                 them"
            ),
            "choose a language model whose plugin computes gradients",
        ),
    };
    TrainError::Untrainable {
        what,
        remedy,
        source: Box::new(source),
    }
}

fn of_encoder(stage: TrainingStage, id: &str, source: CallError) -> TrainError {
    TrainError::Untrainable {
        what: format!("`{stage}` trains the encoders, and `{id}` cannot be trained"),
        remedy: "train with `--stage finetune`, which does not change the encoders, or choose another encoder",
        source: Box::new(source),
    }
}
