//! The training loop: device batches, steps, validation and checkpoints.

use super::{
    Schedule, Settings, StepMetrics, Summary, TrainError, TrainObserver,
    checkpoint::{Checkpoints, State},
    checks::{self, DataSets},
    data::{BatchRequest, Batching, BrokenExample, Index, LoadedBatch, Loader, Source},
    metrics::MetricsLog,
    model::{Model, StepSums},
    run_folder::RunFolder,
};
use crate::{VideoOptions, model::encoders::Prepared, video};
use merv_plugin_api::Backward;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The state of a run.
pub(super) struct Trainer<'s> {
    settings: &'s Settings,
    run: RunFolder,
    checkpoints: Checkpoints,
    model: Model,
    source: Arc<Source<Prepared>>,
    validation: Option<Arc<Source<Prepared>>>,
    batching: Batching,
    per_epoch: usize,
    schedule: Schedule,
    /// The number of completed steps.
    step: u64,
    /// Entries that were found broken when they were read.
    broken: BTreeSet<u32>,
    /// The latest broken examples.
    latest: Vec<BrokenExample>,
    loss: Option<f64>,
    validation_loss: Option<f64>,
}

/// Returns how these settings group examples into batches.
pub(super) fn batching(settings: &Settings) -> Batching {
    Batching {
        size: settings.global_batch,
        group_by_length: settings.group_by_length,
        seed: settings.seed,
    }
}

/// Returns the number of steps of a run whose epochs have `per_epoch` batches.
pub(super) fn total_steps(settings: &Settings, per_epoch: usize) -> usize {
    let all = per_epoch.saturating_mul(settings.epochs);
    settings.max_steps.map_or(all, |most| all.min(most))
}

impl<'s> Trainer<'s> {
    /// Creates a trainer that has not read any examples yet.
    pub(super) fn new(
        settings: &'s Settings,
        run: RunFolder,
        checkpoints: Checkpoints,
        model: Model,
        data: DataSets,
    ) -> Result<Self, TrainError> {
        let DataSets { index, validation } = data;
        let batching = batching(settings);
        let per_epoch = batching.per_epoch(index.entries());
        let total = total_steps(settings, per_epoch);
        let source = source(settings, &model, index)?;
        let validation = validation.map(|index| source_beside(settings, &model, index));
        Ok(Self {
            settings,
            run,
            checkpoints,
            model,
            source,
            validation: validation.transpose()?,
            batching,
            per_epoch,
            schedule: Schedule::new(settings.learning_rate, settings.warmup_ratio, total),
            step: 0,
            broken: BTreeSet::new(),
            latest: Vec::new(),
            loss: None,
            validation_loss: None,
        })
    }

    /// Reports broken examples that the index found, and other problems of the data.
    pub(super) fn report_data(
        &mut self,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainError> {
        let source = Arc::clone(&self.source);
        for broken in source.index.broken() {
            self.report_broken(broken, observer);
        }
        let held_out = self
            .validation
            .iter()
            .flat_map(|source| source.index.broken());
        for BrokenExample { name, why } in held_out {
            observer.warning(&format!("{name} is skipped: {why}"));
        }
        self.check_broken()?;
        let notices = self
            .model
            .registry
            .mixer
            .weights
            .unknown_encoders()
            .into_iter();
        let notices = notices.chain(checks::empty_media(&source.index));
        notices.for_each(|notice| observer.notice(&notice));
        let cut = checks::cut_short(&source.index, &source.form, self.model.pool())?;
        let warnings = cut
            .into_iter()
            .chain(checks::learns_nothing(&self.schedule));
        warnings.for_each(|warning| observer.warning(&warning));
        Ok(())
    }

    /// Restores the state of a checkpoint.
    pub(super) fn restore(&mut self, state: &State) -> Result<(), TrainError> {
        let total = self.schedule.total as u64;
        checks::resumable(state, &self.source.index, self.run.path(), total)?;
        let checkpoints = &self.checkpoints;
        self.model
            .restore(|part| checkpoints.restore(state, part))?;
        self.step = state.step;
        self.broken = state.broken.iter().copied().collect();
        self.validation_loss = state.validation_loss;
        Ok(())
    }

    /// Writes the registry of the trained model again if it differs from what was written.
    pub(super) fn repair_registry(
        &self,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainError> {
        let (Some(saved), Some(fault)) = (self.checkpoints.preferred(), self.run.registry_fault())
        else {
            return Ok(());
        };
        observer.warning(&format!("{fault}; it is written again"));
        self.run
            .write_registry(&self.model.registry, saved, self.settings)
    }

    /// Reports if the length of the run differs from the length in its earlier settings, and records the new
    /// settings.
    pub(super) fn record_length(
        &self,
        before: &Settings,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainError> {
        let (now, settings) = (self.schedule.total, self.settings);
        let then = total_steps(before, self.per_epoch);
        if now != then {
            observer.notice(&format!(
                "the run has {now} steps instead of {then}: from step {} on, the learning rate is that of a \
                 run of {now} steps",
                self.step + 1
            ));
        } else if (settings.epochs, settings.max_steps) != (before.epochs, before.max_steps) {
            observer.notice(&format!(
                "the run still has {now} steps: it ends when either `epochs` or `max_steps` is reached"
            ));
        }
        self.run.record(settings)
    }

    /// Trains the remaining steps.
    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        observer: &mut dyn TrainObserver,
    ) -> Result<Summary, TrainError> {
        let total = self.schedule.total as u64;
        let mut log = MetricsLog::open(self.run.path(), self.step, |text| observer.warning(text))?;
        let mut loader = Loader::new(
            Arc::clone(&self.source),
            self.work(),
            self.settings.readers(),
            self.settings.prefetch,
        )?;
        observer.begin(self.step, total);
        let mut sums = StepSums::default();
        let (mut started, mut waited) = (Instant::now(), Duration::ZERO);
        let mut stopped = false;
        while let Some(mut batch) = loader.take()? {
            waited += batch.waited;
            self.record_broken(&mut batch, observer)?;
            self.report_cache_notices(observer);
            if !batch.ready.is_empty() {
                let ready = std::mem::take(&mut batch.ready);
                self.model.compute(ready, Backward::GRADIENTS, &mut sums)?;
            }
            if batch.request.last {
                let metrics = self.finish_step(&sums, started, waited, observer)?;
                sums = StepSums::default();
                (started, waited) = (Instant::now(), Duration::ZERO);
                let last = self.step == total;
                let validated = self.validate_if_due(last, observer)?;
                if let Some(mut metrics) = metrics {
                    metrics.validation_loss = validated;
                    log.push(&metrics)?;
                    observer.step(&metrics);
                }
                if last || self.step.is_multiple_of(self.settings.save_every as u64) {
                    self.save(validated, &log)?;
                }
            }
            if stop.load(Ordering::Relaxed) && self.step < total {
                stopped = true;
                break;
            }
        }
        if stopped {
            // The resumed run computes the incomplete step again.
            self.model.clear_gradients()?;
            self.save(None, &log)?;
        }
        Ok(Summary {
            steps: self.step,
            total_steps: total,
            stopped,
            loss: self.loss,
            validation_loss: self.validation_loss,
            broken_examples: self.broken_count(),
            examples: self.source.index.total(),
        })
    }

    /// Returns the remaining work: the batches of the steps, split into device batches.
    fn work(&self) -> impl Iterator<Item = BatchRequest> + use<> {
        let (source, batching) = (Arc::clone(&self.source), self.batching);
        let (per_epoch, size) = (self.per_epoch as u64, self.settings.device_batch);
        let mut epoch = (u64::MAX, Vec::new());
        (self.step..self.schedule.total as u64).flat_map(move |step| {
            if epoch.0 != step / per_epoch {
                let number = step / per_epoch;
                epoch = (number, batching.epoch(source.index.entries(), number));
            }
            let batch: &Vec<u32> = &epoch.1[(step % per_epoch) as usize];
            let count = batch.len().div_ceil(size);
            let pieces = batch
                .chunks(size)
                .enumerate()
                .map(|(at, numbers)| BatchRequest {
                    step,
                    last: at + 1 == count,
                    numbers: numbers.to_vec(),
                });
            pieces.collect::<Vec<_>>()
        })
    }

    /// Updates the parameters, and returns the metrics of the step that started at `started`. A step without
    /// labels has no metrics.
    fn finish_step(
        &mut self,
        sums: &StepSums,
        started: Instant,
        waited: Duration,
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<StepMetrics>, TrainError> {
        let number = self.step + 1;
        let learning_rate = self.schedule.rate(self.step as usize);
        if sums.labels == 0 {
            self.model.clear_gradients()?;
            self.step = number;
            observer.warning(&format!(
                "step {number} has nothing to learn from: every example in it is broken or has no reply within \
                 `max_length`"
            ));
            return Ok(None);
        }
        let loss = sums.loss / sums.labels as f64;
        let not_finite = |what| TrainError::NotFinite { what, step: number };
        if !loss.is_finite() {
            return Err(not_finite("loss"));
        }
        let change = self.model.step(self.settings, learning_rate, sums.labels)?;
        if !change.gradient_norm.is_finite() {
            return Err(not_finite("gradient"));
        }
        self.step = number;
        self.loss = Some(loss);
        let ids = self.model.encoders.ids();
        let weights = sums.mixer_weights.iter().map(|sum| sum / sums.seen as f64);
        let seconds = started.elapsed().as_secs_f64();
        Ok(Some(StepMetrics {
            step: number,
            epoch: number as f64 / self.per_epoch as f64,
            loss,
            learning_rate,
            gradient_norm: change.gradient_norm,
            tokens: sums.tokens,
            tokens_per_second: sums.tokens as f64 / seconds.max(1e-9),
            examples: sums.examples,
            seconds,
            data_wait: waited.as_secs_f64(),
            mixer_weights: ids.map(str::to_owned).zip(weights).collect(),
            validation_loss: None,
        }))
    }

    /// Computes the loss on the held-out examples, if it is due at this step.
    fn validate_if_due(
        &mut self,
        last: bool,
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<f64>, TrainError> {
        let due = last
            || self
                .step
                .is_multiple_of(self.settings.validate_every as u64);
        let Some(source) = self.validation.clone().filter(|_| due) else {
            return Ok(None);
        };
        let size = self.settings.device_batch;
        let numbers: Vec<u32> = (0..source.index.entries().len() as u32).collect();
        let work: Vec<_> = numbers
            .chunks(size)
            .map(|numbers| BatchRequest {
                step: self.step,
                last: false,
                numbers: numbers.to_vec(),
            })
            .collect();
        let (workers, prefetch) = (self.settings.readers(), self.settings.prefetch);
        let mut loader = Loader::new(Arc::clone(&source), work.into_iter(), workers, prefetch)?;
        let (mut sums, mut broken) = (StepSums::default(), 0);
        while let Some(batch) = loader.take()? {
            broken += batch.broken.len();
            if !batch.ready.is_empty() {
                self.model
                    .compute(batch.ready, Backward::LOSS_ONLY, &mut sums)?;
            }
        }
        if broken > 0 {
            let path = source.index.path().display();
            observer.warning(&format!("{broken} held-out examples of {path} are broken"));
        }
        let loss = (sums.labels > 0).then(|| sums.loss / sums.labels as f64);
        self.validation_loss = loss.or(self.validation_loss);
        Ok(loss)
    }

    /// Writes a checkpoint, then the registry that uses it.
    fn save(&mut self, validation_loss: Option<f64>, log: &MetricsLog) -> Result<(), TrainError> {
        // The curves of a run that is resumed from this checkpoint are then complete.
        log.sync()?;
        let (stage, step) = (self.settings.stage, self.step);
        let (index, broken) = (&self.source.index, &self.broken);
        self.checkpoints
            .save(&self.model.parts_to_save(), step, |version, parts| State {
                version,
                step,
                stage: stage.name().to_owned(),
                data_sha256: index.sha256().to_owned(),
                broken: broken.iter().copied().collect(),
                validation_loss,
                parts,
                crc32: None,
            })?;
        if let Some(saved) = self.checkpoints.preferred() {
            self.run
                .write_registry(&self.model.registry, saved, self.settings)?;
        }
        // Old checkpoints are removed last, because the old registry used one of them.
        Ok(self.checkpoints.prune()?)
    }

    fn broken_count(&self) -> usize {
        self.source.index.broken_count() + self.broken.len()
    }

    /// Counts and reports the examples that could not be read, each once.
    fn record_broken(
        &mut self,
        batch: &mut LoadedBatch<Prepared>,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainError> {
        for (number, broken) in batch.broken.drain(..) {
            if self.broken.insert(number) {
                self.report_broken(&broken, observer);
            }
        }
        self.check_broken()
    }

    fn report_broken(&mut self, broken: &BrokenExample, observer: &mut dyn TrainObserver) {
        observer.warning(&format!("{} is skipped: {}", broken.name, broken.why));
        if self.latest.len() == checks::MAX_LISTED {
            self.latest.remove(0);
        }
        self.latest.push(broken.clone());
    }

    fn check_broken(&self) -> Result<(), TrainError> {
        let (index, fraction) = (&self.source.index, self.settings.max_bad_fraction);
        Ok(checks::check_broken_fraction(
            index,
            self.broken.len(),
            fraction,
            &self.latest,
        )?)
    }

    fn report_cache_notices(&self, observer: &mut dyn TrainObserver) {
        let notices = self
            .model
            .cache
            .iter()
            .flat_map(|cache| cache.take_notices());
        notices.for_each(|notice| observer.warning(&notice));
    }
}

/// Returns the source of the training examples.
fn source(
    settings: &Settings,
    model: &Model,
    index: Index,
) -> Result<Arc<Source<Prepared>>, TrainError> {
    source_in(settings, model, index, &settings.media)
}

/// Returns the source of held-out examples. Their paths are relative to their own file, unless `media` is set.
fn source_beside(
    settings: &Settings,
    model: &Model,
    index: Index,
) -> Result<Arc<Source<Prepared>>, TrainError> {
    let beside = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
    let media = match settings.media == beside(&settings.data) {
        true => beside(index.path()),
        false => settings.media.clone(),
    };
    source_in(settings, model, index, &media)
}

fn source_in(
    settings: &Settings,
    model: &Model,
    index: Index,
    media: &Path,
) -> Result<Arc<Source<Prepared>>, TrainError> {
    let (visual, context) = (model.visual_tokens(), model.context());
    let entry = &model.registry.llm;
    let max_length = checks::text_length(settings, entry, visual, context)?;
    let (encoders, cache) = (Arc::clone(&model.encoders), model.cache.clone());
    let see = move |path: &Path| {
        video::check_rereadable(path)?;
        encoders.prepare(path, &VideoOptions::default(), cache.as_deref(), &mut ())
    };
    Ok(Arc::new(Source {
        index: Arc::new(index),
        media: media.to_owned(),
        form: checks::example_tokenizer(settings, entry, &model.tokenizer, max_length)?,
        read_visual: Box::new(see),
    }))
}
