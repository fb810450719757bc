//! The entry point of a training run.

use super::{
    Settings, Summary, TrainError, TrainObserver,
    checkpoint::{Checkpoints, NO_CHECKPOINT},
    checks::{self, DataSets},
    model::Model,
    run_folder::{RunFolder, registry_of},
    trainer::Trainer,
};
use crate::{
    LoadOptions, Plan,
    features::FeatureCache,
    registry::{Registry, SearchPath, find},
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// The options of a run that are not in its settings.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// How models are loaded. The settings' precision, if they have one, overrides the one in these options.
    pub load: LoadOptions,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether to resume the run in that folder.
    pub resume: bool,
}

/// Uses `registry` (a FILE, a NAME or the folder of an earlier run) instead of the settings' own.
///
/// # Errors
///
/// When there is no such registry.
pub fn start_from(settings: &mut Settings, registry: &Path) -> Result<(), TrainError> {
    settings.registry = registry_of(registry)?;
    Ok(())
}

/// Trains a model. When `stop` becomes true, the run ends after the current device batch, with a checkpoint of the
/// last complete step.
///
/// # Errors
///
/// Whatever stops the run. Its last checkpoint is not affected.
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
    let load = settings.with_precision(&options.load);
    let data = DataSets::read(settings, &Registry::from_file(&registry)?.llm)?;
    let cache = checks::feature_cache(settings)?;
    let (run, recorded) = match resumed {
        Some(resumed) => resumed,
        None => {
            // What the plugins refuse is refused before the folder is made.
            Plan::new(Registry::load(&registry)?, &load)?;
            let run = RunFolder::create(&options.out, settings)?;
            (run, settings.clone())
        }
    };
    let mut checkpoints = Checkpoints::open(run.path(), settings.keep)?;
    let state = checkpoints.newest(|warning| observer.warning(warning))?;
    if options.resume && state.is_none() {
        observer.notice(NO_CHECKPOINT);
    }
    let cache = cache.map(FeatureCache::open_as_kept);
    let model = Model::load(&run.base(), settings, &load, cache.transpose()?, observer)?;
    let mut trainer = Trainer::new(settings, run, checkpoints, model, data)?;
    trainer.report_data(observer)?;
    if let Some(state) = state {
        trainer.restore(&state)?;
        trainer.repair_registry(observer)?;
    }
    trainer.record_length(&recorded, observer)?;
    trainer.run(stop, observer)
}
