//! A run from the outside: what it is given, who watches it, how it ends.

use super::{
    Settings, StepMetrics, TrainError,
    checkpoint::Checkpoints,
    checks::{self, DataSets},
    model::Model,
    run_folder::{RunFolder, registry_of},
    trainer::Trainer,
};
use crate::{
    LoadOptions, Observer,
    features::FeatureCache,
    registry::{Registry, SearchPath, find},
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// What a run is given besides its settings.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// How models are loaded. The settings' precision, if they have one, goes before that said here.
    pub load: LoadOptions,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether a run that is there already is gone on with.
    pub resume: bool,
}

/// Watches a run. All methods may be left out.
pub trait TrainObserver: Observer {
    /// Steps begin; `done` of `total` were done before.
    fn begin(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// A step was done.
    fn step(&mut self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// Something that should be known.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }

    /// Something that went wrong, though the run goes on.
    fn warning(&mut self, text: &str) {
        self.notice(text);
    }
}

impl TrainObserver for () {}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Steps that were done, all runs together.
    pub steps: u64,
    /// Steps that are to be done.
    pub total_steps: u64,
    /// Whether it was stopped before that.
    pub stopped: bool,
    /// The loss of the last step that had one.
    pub loss: Option<f64>,
    /// The loss on the held-out examples, as it was computed last.
    pub validation_loss: Option<f64>,
    /// Examples that turned out broken.
    pub broken_examples: usize,
    /// Examples of the data set.
    pub examples: usize,
}

/// Uses `registry`, a FILE, a NAME or the folder of an earlier run, instead of the settings' own.
///
/// # Errors
///
/// When there is no such registry.
pub fn begin_from(settings: &mut Settings, registry: &Path) -> Result<(), TrainError> {
    settings.registry = registry_of(registry)?;
    Ok(())
}

/// Trains. A rising `stop` ends the run after the batch that is being computed, with a checkpoint of the
/// last whole step.
///
/// # Errors
///
/// Whatever stops the run; what its last checkpoint holds is safe then.
pub fn train(
    settings: &Settings,
    options: &TrainOptions,
    stop: &AtomicBool,
    observer: &mut dyn TrainObserver,
) -> Result<Summary, TrainError> {
    let settings = &settings.named_after(&options.out);
    let resumed = match options.resume {
        true => Some(RunFolder::resume(&options.out, settings)?),
        false => None,
    };
    let registry = match &resumed {
        Some((run, _)) => run.base(),
        None => find(&settings.registry, &SearchPath::from_env())?,
    };
    let data = DataSets::read(settings, &Registry::from_file(&registry)?.llm)?;
    let cache = checks::feature_cache(settings)?;
    let (run, recorded) = match resumed {
        Some(resumed) => resumed,
        None => {
            let run = RunFolder::begin(&options.out, settings)?;
            (run, settings.clone())
        }
    };
    let mut checkpoints = Checkpoints::open(run.path(), settings.keep)?;
    let state = checkpoints.newest(|warning| observer.warning(warning))?;
    if options.resume && state.is_none() {
        observer.notice("the run has no checkpoint yet: it begins with its first step");
    }
    let cache = cache.map(FeatureCache::open_as_kept);
    let load = settings.over(&options.load);
    let model = Model::load(&run.base(), settings, &load, cache.transpose()?, observer)?;
    let mut trainer = Trainer::new(settings, run, checkpoints, model, data)?;
    trainer.look_over_data(observer)?;
    if let Some(state) = state {
        trainer.restore(&state)?;
        trainer.mend_registry(observer)?;
    }
    trainer.record_length(&recorded, observer)?;
    trainer.run(stop, observer)
}
