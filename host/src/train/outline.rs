//! `train --dry-run`: the checks of a run, and an outline of what it would do.

#[cfg(test)]
mod tests;

use super::{
    Schedule, Settings, TrainError, TrainingStage,
    checkpoint::{Checkpoints, NO_CHECKPOINT},
    checks::{self, DataSets, MAX_LISTED, PluginModel, Trainings},
    data::{BrokenExample, Index, Modality},
    run_folder::{check_free, check_not_locked, check_writable, use_registry_of_run},
    trainer::{batching, total_steps},
};
use crate::{
    Error, LoadOptions, Plan, VidLm,
    model::plan::UntrainedMixer,
    registry::{Registry, SearchPath, SourceError, find},
    tokenizer::TextTokenizer,
};
use merv_checkpoint::{Checkpoint, StoredDtype};
use merv_plugin_api::{EncoderInfo, LanguageModelInfo, ModelSource};
use rayon::ThreadPool;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes per number in training.
const F32: u64 = 4;

/// Numbers that training keeps for each trained parameter, in addition to its value: the gradient and two moments.
const KEPT: u64 = 3;

/// The number of copies of its input that a transformer layer needs in the backward pass.
const LAYER_COPIES: u64 = 16;

/// What a run would do.
#[derive(Debug, Clone, Serialize)]
pub struct Outline {
    /// The stage.
    pub stage: &'static str,
    /// The id of the model.
    pub model: String,
    /// The data set.
    pub data: DataOutline,
    /// The held-out examples.
    pub validation: Option<DataOutline>,
    /// How often each example is seen.
    pub epochs: usize,
    /// The number of steps in an epoch.
    pub steps_per_epoch: usize,
    /// The number of all steps.
    pub total_steps: usize,
    /// The number of steps in which the learning rate rises.
    pub warmup_steps: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The number of examples in a step.
    pub global_batch: usize,
    /// The number of examples that are computed together.
    pub device_batch: usize,
    /// The number of checkpoints that will be written.
    pub checkpoints: usize,
    /// The number of visual tokens of a clip.
    pub visual_tokens: usize,
    /// Maximum number of text tokens of an example.
    pub max_length: usize,
    /// The parts of the model, from the encoders to the language model.
    pub parts: Vec<PartOutline>,
    /// The initial tensors of the mixer, if it is not trained yet.
    pub untrained_mixer: Option<UntrainedMixer>,
    /// The number of parameters that are trained.
    pub trained_parameters: u64,
    /// The number of parameters that are not trained.
    pub frozen_parameters: u64,
    /// The expected memory.
    pub memory: MemoryOutline,
    /// The sum of the expected memory.
    pub memory_bytes: u64,
    /// Files that are not on this machine. Their contents were not checked.
    pub unchecked: Vec<String>,
    /// What the run would report before its first step.
    pub notices: Vec<String>,
}

/// A data set.
#[derive(Debug, Clone, Serialize)]
pub struct DataOutline {
    /// The file.
    pub path: PathBuf,
    /// The number of examples that can be trained on, as far as the file alone shows.
    pub examples: usize,
    /// The number of those with a video.
    pub videos: usize,
    /// The number of those with an image.
    pub images: usize,
    /// The number of those with neither.
    pub texts: usize,
    /// The number of examples that cannot be trained on.
    pub broken: usize,
    /// The number of examples whose image or video file is missing.
    pub missing: usize,
    /// The first examples that are broken or whose file is missing.
    pub broken_examples: Vec<BrokenExample>,
}

/// A part of the model.
#[derive(Debug, Clone, Serialize)]
pub struct PartOutline {
    /// Its id.
    pub id: String,
    /// Whether it is trained.
    pub trained: bool,
    /// The number of its parameters.
    pub parameters: u64,
}

/// The expected memory in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryOutline {
    /// The weights of all parts.
    pub weights: u64,
    /// The gradients and the optimizer's two moments.
    pub training_state: u64,
    /// The activations of the forward and backward pass.
    pub activations: u64,
    /// The examples that are read ahead.
    pub examples: u64,
}

impl Outline {
    /// Checks the settings, the model, the data, and the run's folder if `out` is given, with the run's own checks.
    /// Loads the model if all its files are on this machine. Writes nothing.
    ///
    /// # Errors
    ///
    /// Every error that would stop the run before its first step, or later because of missing image or video files.
    pub fn new(
        settings: &Settings,
        options: &LoadOptions,
        out: Option<&Path>,
        resume: bool,
    ) -> Result<Self, TrainError> {
        let mut settings = settings.clone();
        if let Some(out) = out {
            settings = settings.named_after(out);
            match resume {
                true => use_registry_of_run(&mut settings, out)?,
                false => check_free(out)?,
            }
            check_not_locked(out)?;
            check_writable(out)?;
        }
        let settings = &settings;
        let options = &settings.with_precision(options);
        let registry = find(&settings.registry, &SearchPath::from_env())?;
        let registry = Registry::from_file(&registry)?;
        let DataSets { index, validation } = DataSets::read(settings, &registry.llm)?;
        let missing = missing(settings, &index)?;
        checks::feature_cache(settings)?;
        let plan = Plan::new(registry.clone(), options)?;
        let mut notices: Vec<String> = checks::empty_media(&index).into_iter().collect();
        let (unchecked, text) = match check_model(settings, &plan, registry, options)? {
            Ok(text) => (Vec::new(), Some(text)),
            Err(missing) => (missing, None),
        };
        let steps_per_epoch = batching(settings).per_epoch(index.entries());
        let total_steps = total_steps(settings, steps_per_epoch);
        let schedule = Schedule::new(settings.learning_rate, settings.warmup_ratio, total_steps);
        notices.extend(checks::learns_nothing(&schedule));
        if let Some(out) = out.filter(|_| resume) {
            let newest = Checkpoints::newest_of(out, |warning| notices.push(warning.to_owned()))?;
            match newest {
                Some(state) => checks::resumable(&state, &index, out, total_steps as u64)?,
                None => notices.push(NO_CHECKPOINT.to_owned()),
            }
        }

        let llm = &plan.llm.info;
        let kind = plan.registry.mixer.kind;
        let visual_tokens = kind.visual_tokens(&plan.projected_tokens());
        let context = llm.context_length as usize;
        let entry = &plan.registry.llm;
        let max_length = checks::text_length(settings, entry, visual_tokens, context)?;
        if let Some(Tokenising { tokenizer, pool }) = text {
            let form = checks::example_tokenizer(settings, entry, &tokenizer, max_length)?;
            notices.extend(checks::cut_short(&index, &form, &pool)?);
        }
        let mixer = plan.mixer.cost;

        let parts = parts(&plan, settings.stage, mixer.parameters);
        let of = |trained: bool| {
            let those = parts.iter().filter(|part| part.trained == trained);
            those
                .map(|part| part.parameters)
                .fold(0, u64::saturating_add)
        };
        let (trained, frozen) = (of(true), of(false));
        let infos: Vec<&EncoderInfo> = plan.encoders.iter().map(|encoder| &encoder.info).collect();
        let memory = MemoryOutline {
            weights: weights(&plan, settings.stage, mixer.parameters)?,
            training_state: trained.saturating_mul(KEPT * F32),
            activations: activations(settings, &infos, llm, visual_tokens, max_length),
            examples: examples(settings, &infos),
        };
        let all = [
            memory.weights,
            memory.training_state,
            memory.activations,
            memory.examples,
        ];
        Ok(Self {
            stage: settings.stage.name(),
            model: plan.registry.id.clone(),
            data: DataOutline::of(&index, missing),
            validation: validation.map(|index| DataOutline::of(&index, Vec::new())),
            epochs: settings.epochs,
            steps_per_epoch,
            total_steps,
            warmup_steps: schedule.warmup,
            learning_rate: settings.learning_rate,
            global_batch: settings.global_batch,
            device_batch: settings.device_batch,
            checkpoints: total_steps.div_ceil(settings.save_every),
            visual_tokens,
            max_length,
            parts,
            untrained_mixer: plan.mixer.untrained.clone(),
            trained_parameters: trained,
            frozen_parameters: frozen,
            memory,
            memory_bytes: all.into_iter().fold(0, u64::saturating_add),
            unchecked,
            notices,
        })
    }
}

/// Returns the examples whose files are missing. Fails if they and the broken examples are too many.
fn missing(settings: &Settings, index: &Index) -> Result<Vec<BrokenExample>, TrainError> {
    let fraction = settings.max_bad_fraction;
    checks::check_broken_fraction(index, 0, fraction, index.broken())?;
    let missing = index.without_files(&settings.media)?;
    checks::check_broken_fraction(index, missing.len(), fraction, &missing)?;
    Ok(missing)
}

/// The tokenizer of the language model, and the threads to run it on.
struct Tokenising {
    tokenizer: Arc<TextTokenizer>,
    pool: ThreadPool,
}

/// Loads the model, and checks that its plugins can train it. If files are missing, loads nothing and returns their
/// names.
fn check_model(
    settings: &Settings,
    plan: &Plan,
    registry: Registry,
    options: &LoadOptions,
) -> Result<Result<Tokenising, Vec<String>>, TrainError> {
    let model = match VidLm::load_present(registry, options)? {
        Ok(model) => model.into_parts(),
        Err(missing) => return Ok(Err(missing)),
    };
    let (stage, registry) = (settings.stage, &model.registry);
    let trainings = Trainings::new(stage, registry, &model.llm, &model.encoders)?;
    checks::begin_mixer(stage, model.mixer, registry)?;
    // Training copies the weights. Only quantised weights are prepared for it, because the plugin may refuse them.
    let llm = stage.trains_llm() && is_quantised(&plan.llm.request.model)?;
    let encoders = plan.encoders.iter();
    let encoders = encoders.map(|encoder| is_quantised(&encoder.request.model));
    let encoders = encoders.collect::<Result<Vec<_>, _>>()?;
    trainings.begin(settings, registry, |part| match part {
        PluginModel::Llm => llm,
        PluginModel::Encoder(index) => encoders.get(index).is_some_and(|quantised| *quantised),
    })?;
    Ok(Ok(Tokenising {
        tokenizer: Arc::new(model.tokenizer),
        pool: model.pool,
    }))
}

fn is_quantised(model: &ModelSource) -> Result<bool, Error> {
    if model.weights.is_empty() {
        return Ok(false);
    }
    let files = Checkpoint::open(&model.weights).map_err(SourceError::from)?;
    let mut tensors = files.iter();
    Ok(tensors.any(|(_, tensor)| matches!(tensor.dtype, StoredDtype::Quantized(_))))
}

impl DataOutline {
    fn of(index: &Index, missing: Vec<BrokenExample>) -> Self {
        let count = |modality| {
            let entries = index.entries().iter();
            entries.filter(|entry| entry.modality == modality).count()
        };
        Self {
            path: index.path().to_owned(),
            examples: index.entries().len(),
            videos: count(Modality::Video),
            images: count(Modality::Image),
            texts: count(Modality::Text),
            broken: index.broken_count(),
            missing: missing.len(),
            broken_examples: index
                .broken()
                .iter()
                .cloned()
                .chain(missing)
                .take(MAX_LISTED)
                .collect(),
        }
    }
}

fn parts(plan: &Plan, stage: TrainingStage, mixer: u64) -> Vec<PartOutline> {
    let entries = plan.registry.encoders.iter().zip(&plan.encoders);
    let mut parts: Vec<_> = entries
        .map(|(entry, planned)| PartOutline {
            id: entry.id.clone(),
            trained: stage.trains_encoders(),
            parameters: planned.info.parameters,
        })
        .collect();
    parts.push(PartOutline {
        id: "mixer".to_owned(),
        trained: true,
        parameters: mixer,
    });
    parts.push(PartOutline {
        id: plan.registry.llm.id.clone(),
        trained: stage.trains_llm(),
        parameters: plan.llm.info.parameters,
    });
    parts
}

/// Estimates the memory of the weights: trained weights are kept in single precision, others as they are stored.
fn weights(plan: &Plan, stage: TrainingStage, mixer: u64) -> Result<u64, crate::Error> {
    let mut sum = mixer.saturating_mul(F32);
    for planned in &plan.encoders {
        sum = sum.saturating_add(match stage.trains_encoders() {
            true => planned.info.parameters.saturating_mul(F32),
            false => planned.weight_bytes()?,
        });
    }
    Ok(sum.saturating_add(match stage.trains_llm() {
        true => plan.llm.info.parameters.saturating_mul(F32),
        false => plan.llm.weight_bytes()?,
    }))
}

/// Estimates the memory of the activations from the sizes that the models state. The plugins may use more or less.
fn activations(
    settings: &Settings,
    encoders: &[&EncoderInfo],
    llm: &LanguageModelInfo,
    visual_tokens: usize,
    max_length: usize,
) -> u64 {
    let batch = settings.device_batch as u64;
    let product = |factors: &[u64]| factors.iter().copied().fold(1, u64::saturating_mul);
    let layers = |parameters: u64, width: u64| (parameters / product(&[12, width, width])).max(1);
    // Each layer keeps its input, or everything that it computed. One layer always keeps everything.
    let kept = |layers: u64| match settings.gradient_checkpointing {
        true => layers.saturating_add(LAYER_COPIES),
        false => layers.saturating_mul(LAYER_COPIES),
    };
    let positions = batch.saturating_mul((visual_tokens + max_length) as u64);
    let (width, vocabulary) = (u64::from(llm.width), u64::from(llm.vocab_size));
    let inside = llm
        .parameters
        .saturating_sub(product(&[2, width, vocabulary]));
    let of_llm = product(&[positions, width, kept(layers(inside, width)), F32])
        .saturating_add(product(&[positions, vocabulary, 2, F32]));
    let of_encoder = |info: &&EncoderInfo| {
        let width = u64::from(info.width);
        // Linear layers use every parameter once for each token.
        let tokens = (info.macs_per_clip / info.parameters.max(1))
            .max(u64::from(info.temporal) * u64::from(info.spatial));
        match settings.stage.trains_encoders() {
            true => product(&[
                batch,
                tokens,
                width,
                kept(layers(info.parameters, width)),
                F32,
            ]),
            // The clips are encoded one at a time, and nothing is kept.
            false => product(&[tokens, width, LAYER_COPIES, F32]),
        }
    };
    let encoders = encoders.iter().map(of_encoder);
    let encoders = match settings.stage.trains_encoders() {
        true => encoders.fold(0, u64::saturating_add),
        false => encoders.max().unwrap_or(0),
    };
    of_llm.saturating_add(encoders)
}

/// Estimates the memory of the clips that are read ahead.
fn examples(settings: &Settings, encoders: &[&EncoderInfo]) -> u64 {
    let clip = encoders.iter().map(|info| {
        let side = u64::from(info.image_size());
        [side, side, 3, F32]
            .into_iter()
            .fold(u64::from(info.num_frames), u64::saturating_mul)
    });
    let clip = clip.fold(0, u64::saturating_add);
    let ahead = (settings.prefetch + 1).saturating_mul(settings.device_batch);
    clip.saturating_mul(ahead as u64)
}
