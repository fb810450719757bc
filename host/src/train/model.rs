//! The model during training: the forward and backward pass of a batch through the encoders, the mixer and the
//! language model.

use super::{
    Settings, TrainError,
    checkpoint::{PartToSave, is_writable, untrained},
    checks::{self, Trainings},
    collate::BatchLayout,
    data::LoadedExample,
    mixer_part::MixerPart,
    part::{PluginPart, TrainedPart},
    run_folder::encoder_part,
};
use crate::{
    Error, LoadOptions, Observer, VidLm,
    disk::tensor_names::{self, check_names},
    features::FeatureCache,
    mixer::{CoreMixer, MixerError},
    model::encoders::{Encoders, Prepared},
    plugin::{LanguageModel, Tape},
    registry::{Registry, SourceError},
    tokenizer::TextTokenizer,
};
use candle_core::Tensor;
use merv_checkpoint::{Checkpoint, StoredTensor};
use merv_plugin_api::{AdamWStep, Backward, TensorView, TrainableMixer, TrainingTexts};
use rayon::ThreadPool;
use std::{path::Path, sync::Arc};

/// AdamW's constants, the same as upstream.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The value that PyTorch's `clip_grad_norm_` adds to the norm.
const CLIP_EPSILON: f64 = 1e-6;

/// A loaded model, some of whose parts are trained.
pub(super) struct Model {
    pub(super) registry: Registry,
    pub(super) encoders: Arc<Encoders>,
    pub(super) tokenizer: Arc<TextTokenizer>,
    pub(super) cache: Option<Arc<FeatureCache>>,
    mixer: Arc<CoreMixer>,
    llm: LanguageModel,
    pool: ThreadPool,
    mixer_part: MixerPart,
    llm_part: Option<PluginPart>,
    /// One for every encoder, or empty.
    encoder_parts: Vec<PluginPart>,
    /// One for every part, in the order of [`Self::parts`].
    optimizer_steps: Vec<u64>,
    untrained: Vec<Vec<(String, StoredTensor)>>,
}

/// Sums over the device batches of a step.
#[derive(Debug, Default)]
pub(super) struct StepSums {
    pub(super) loss: f64,
    /// The number of labels that are not ignored.
    pub(super) labels: u64,
    /// The number of positions that are not padding.
    pub(super) tokens: u64,
    pub(super) examples: u64,
    /// The sum of each encoder's weights, over the examples with an image or video.
    pub(super) mixer_weights: Vec<f64>,
    pub(super) seen: u64,
}

/// The result of updating the parameters.
pub(super) struct ParameterUpdate {
    /// The norm of the gradient of the mean loss, before clipping.
    pub(super) gradient_norm: f64,
}

impl Model {
    /// Loads the model of a registry file and prepares its parts for training.
    pub(super) fn load(
        registry: &Path,
        settings: &Settings,
        options: &LoadOptions,
        cache: Option<FeatureCache>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let parts = VidLm::load_with(registry, options, observer)?.into_parts();
        let stage = settings.stage;
        let trainings = Trainings::new(stage, &parts.registry, &parts.llm, &parts.encoders)?;
        trainings.begin(settings, &parts.registry, |part| {
            part != checks::PluginModel::Llm || stage.trains_llm()
        })?;
        let llm_part = stage
            .trains_llm()
            .then(|| PluginPart::new("llm".to_owned(), trainings.llm));
        let entries = parts.registry.encoders.iter();
        let encoder_parts = entries.zip(trainings.encoders);
        let encoder_parts = encoder_parts
            .map(|(entry, training)| PluginPart::new(encoder_part(&entry.id), training));
        let encoder_parts = encoder_parts.collect();
        let unused = parts.mixer.unused()?;
        let mixer = checks::begin_mixer(stage, parts.mixer, &parts.registry)?;
        let mut model = Self {
            registry: parts.registry,
            encoders: Arc::new(parts.encoders),
            tokenizer: Arc::new(parts.tokenizer),
            cache: cache.map(Arc::new),
            mixer_part: MixerPart::new(Arc::clone(&mixer)),
            mixer,
            llm: parts.llm,
            pool: parts.pool,
            llm_part,
            encoder_parts,
            optimizer_steps: Vec::new(),
            untrained: Vec::new(),
        };
        model.optimizer_steps = vec![0; model.parts().len()];
        model.untrained = model.untrained_tensors(unused)?;
        model.check_names()?;
        Ok(model)
    }

    /// Checks that a checkpoint can contain all tensors under their names, before hours are spent on training.
    fn check_names(&self) -> Result<(), TrainError> {
        for saved in self.parts_to_save() {
            let parameters = saved.part.parameters()?;
            let trained = parameters.iter().map(|parameter| parameter.name.as_str());
            let untrained = saved.untrained.iter().map(|(name, _)| name.as_str());
            check_names(trained.chain(untrained)).map_err(|error| {
                let part = saved.part.name();
                Error::boundary(format!("{part}: {error}\n  do: {}", tensor_names::ADVICE))
            })?;
        }
        Ok(())
    }

    /// Returns the tensors in the files of the parts that are not trained, with those of the mixer that its computation
    /// does not use. Checkpoints must contain them too.
    fn untrained_tensors(
        &self,
        unused: Vec<(String, StoredTensor)>,
    ) -> Result<Vec<Vec<(String, StoredTensor)>>, TrainError> {
        let unused = unused.into_iter();
        let mut all = vec![unused.filter(|(_, tensor)| is_writable(tensor)).collect()];
        // All tensors of a language model are trained.
        all.extend(self.llm_part.iter().map(|_| Vec::new()));
        for (index, part) in self.encoder_parts.iter().enumerate() {
            let files = Checkpoint::open(self.encoders.weight_files(index));
            let files = files.map_err(|error| Error::from(SourceError::from(error)))?;
            all.push(untrained(&files, part)?);
        }
        Ok(all)
    }

    /// Returns the number of visual tokens of a clip.
    pub(super) fn visual_tokens(&self) -> usize {
        self.encoders.visual_tokens(self.registry.mixer.kind)
    }

    /// Returns the threads to compute with.
    pub(super) fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    /// Returns the context length of the language model.
    pub(super) fn context(&self) -> usize {
        self.llm.info().context_length as usize
    }

    fn parts(&self) -> Vec<&dyn TrainedPart> {
        let mut parts: Vec<&dyn TrainedPart> = vec![&self.mixer_part];
        parts.extend(self.llm_part.iter().map(|part| part as &dyn TrainedPart));
        parts.extend(
            self.encoder_parts
                .iter()
                .map(|part| part as &dyn TrainedPart),
        );
        parts
    }

    fn parts_mut(&mut self) -> Vec<&mut dyn TrainedPart> {
        all_mut(
            &mut self.mixer_part,
            &mut self.llm_part,
            &mut self.encoder_parts,
        )
    }

    /// Returns the parts with everything that a checkpoint stores for them.
    pub(super) fn parts_to_save(&self) -> Vec<PartToSave<'_>> {
        let steps = self.optimizer_steps.iter().zip(&self.untrained);
        let parts = self.parts().into_iter().zip(steps);
        parts
            .map(|(part, (steps, untrained))| PartToSave {
                part,
                optimizer_steps: *steps,
                untrained,
            })
            .collect()
    }

    /// Restores every part with `restore`, which returns the number of optimizer steps.
    pub(super) fn restore<E>(
        &mut self,
        mut restore: impl FnMut(&mut dyn TrainedPart) -> Result<u64, E>,
    ) -> Result<(), E> {
        let parts = self.parts_mut().into_iter();
        let steps = parts.map(&mut restore).collect::<Result<_, E>>();
        self.optimizer_steps = steps?;
        Ok(())
    }

    /// Computes the loss of some examples and, if `what` requests it, accumulates its gradients.
    pub(super) fn compute(
        &mut self,
        examples: Vec<LoadedExample<Prepared>>,
        what: Backward,
        sums: &mut StepSums,
    ) -> Result<(), TrainError> {
        let (mut texts, mut videos) = (Vec::new(), Vec::new());
        for example in examples {
            texts.push((example.tokens, example.visual.is_some()));
            videos.extend(example.visual);
        }
        let trains_encoders = !self.encoder_parts.is_empty() && what == Backward::GRADIENTS;
        let seen = videos.len();
        let encoders = Arc::clone(&self.encoders);
        let mut tapes: Vec<Tape<'_>> = Vec::new();
        let mut features = Vec::new();
        if seen > 0 && trains_encoders {
            for (made, tape) in encoders.forward_train(&videos)? {
                features.push(made);
                tapes.push(tape);
            }
        } else if seen > 0 {
            features = self.frozen_features(videos)?;
        }
        let mixed = match features.is_empty() {
            true => None,
            false => {
                let mixed = self.pool.install(|| self.mixer.record(features));
                Some(mixed.map_err(MixerError::from)?)
            }
        };
        let width = self.llm.info().width as usize;
        let visual = match &mixed {
            Some((mixed, _)) => mixed.tokens.view().f32s()?.to_vec(),
            None => Vec::new(),
        };
        let rows: Vec<_> = texts
            .iter()
            .map(|(tokens, visual)| (tokens, *visual))
            .collect();
        let bos = self.llm.info().bos;
        let layout = BatchLayout::new(&rows, bos, self.visual_tokens());
        let text = self.llm.embed(&layout.ids)?;
        let embeds = layout.embeds(&text.f32s()?, &visual, width);
        drop(text);
        let shape = [layout.batch, layout.length, width];
        let flat = [layout.batch, layout.length];
        let texts = TrainingTexts::new(
            TensorView::new(&embeds, &shape)?,
            TensorView::new(&layout.mask, &flat)?,
            TensorView::new(&layout.labels, &flat)?,
        );
        // Gradients are not sent anywhere, so it does not matter when they are ready.
        let found = self.llm.forward_backward(&texts, what, &mut |_| Ok(()))?;
        sums.loss += found.loss_sum;
        sums.labels += found.tokens;
        sums.tokens += layout.tokens() as u64;
        sums.examples += layout.batch as u64;
        if let Some(weights) = mixed.as_ref().and_then(|(mixed, _)| mixed.weights.as_ref()) {
            sums.seen += seen as u64;
            let [_, encoders] = weights.view().dims::<2>()?;
            for row in weights.view().f32s()?.chunks_exact(encoders.max(1)) {
                sums.mixer_weights.resize(row.len(), 0.0);
                let pairs = sums.mixer_weights.iter_mut().zip(row);
                pairs.for_each(|(sum, weight)| *sum += f64::from(*weight));
            }
        }
        if what == Backward::LOSS_ONLY {
            return Ok(());
        }
        let (text, visual) = layout.split(found.gradient.view().f32s()?, width);
        drop(found);
        if let Some(part) = &mut self.llm_part {
            let shape = [layout.ids.len(), width];
            self.llm
                .backward_embed(&layout.ids, TensorView::new(&text, &shape)?)?;
            part.touch();
        }
        let Some((mixed, tape)) = mixed else {
            return Ok(());
        };
        let gradient = TensorView::new(&visual, mixed.tokens.view().shape())?;
        let backward = || self.mixer.backward(tape, &gradient, &mut |_| Ok(()));
        let gradients = self.pool.install(backward).map_err(MixerError::from)?;
        self.mixer_part.touch();
        let parts = tapes.into_iter().zip(&mut self.encoder_parts);
        for ((tape, part), gradient) in parts.zip(&gradients) {
            // An encoder that the fusion does not use has no gradient.
            if gradient.view().shape() != [0] {
                tape.backward(gradient.view(), &mut |_| Ok(()))?;
                part.touch();
            }
        }
        Ok(())
    }

    /// Computes the features of encoders that are not trained.
    ///
    /// # Shapes
    ///
    /// `[videos, tokens, width]` for each encoder.
    fn frozen_features(&self, videos: Vec<Prepared>) -> Result<Vec<Tensor>, TrainError> {
        let mut rows: Vec<Vec<Tensor>> = Vec::new();
        for video in videos {
            let features = self
                .encoders
                .encode(video, self.cache.as_deref(), &mut ())?;
            rows.push(features.tensors);
        }
        let encoders = rows.first().map_or(0, Vec::len);
        let of_encoder = |index: usize| {
            let tensors: Vec<&Tensor> = rows.iter().map(|row| &row[index]).collect();
            Tensor::cat(&tensors, 0)
        };
        Ok((0..encoders).map(of_encoder).collect::<Result<_, _>>()?)
    }

    /// Updates the parameters with the accumulated gradients of `labels` labels, and clears the gradients.
    pub(super) fn step(
        &mut self,
        settings: &Settings,
        learning_rate: f64,
        labels: u64,
    ) -> Result<ParameterUpdate, TrainError> {
        let squares = self.pool.install(|| {
            let parts = self.parts().into_iter();
            parts
                .map(TrainedPart::gradient_squares)
                .collect::<Result<Vec<_>, _>>()
        })?;
        let mean = 1.0 / labels.max(1) as f64;
        let gradient_norm = squares.iter().flatten().sum::<f64>().sqrt() * mean;
        if !gradient_norm.is_finite() {
            self.clear_gradients()?;
            return Ok(ParameterUpdate { gradient_norm });
        }
        let clip = match settings.max_grad_norm {
            0.0 => 1.0,
            most => (most / (gradient_norm + CLIP_EPSILON)).min(1.0),
        };
        let step = |number| {
            AdamWStep::new(number, learning_rate)
                .betas(BETA1, BETA2)
                .epsilon(EPSILON)
                .weight_decay(settings.weight_decay)
                .gradient_scale(mean * clip)
        };
        let parts = all_mut(
            &mut self.mixer_part,
            &mut self.llm_part,
            &mut self.encoder_parts,
        );
        let all = parts.into_iter().zip(&mut self.optimizer_steps);
        self.pool.install(|| {
            for ((part, steps), squares) in all.zip(squares) {
                // Parts without a gradient are not updated, as in PyTorch.
                if squares.is_some() {
                    *steps += 1;
                    part.apply_adamw(&step(*steps))?;
                    part.clear_gradients()?;
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(ParameterUpdate { gradient_norm })
    }

    /// Clears the accumulated gradients.
    pub(super) fn clear_gradients(&mut self) -> Result<(), TrainError> {
        for part in self.parts_mut() {
            part.clear_gradients()?;
        }
        Ok(())
    }
}

/// Returns the parts in order.
fn all_mut<'p>(
    mixer: &'p mut MixerPart,
    llm: &'p mut Option<PluginPart>,
    encoders: &'p mut [PluginPart],
) -> Vec<&'p mut dyn TrainedPart> {
    let mut parts: Vec<&mut dyn TrainedPart> = vec![mixer];
    parts.extend(llm.iter_mut().map(|part| part as &mut dyn TrainedPart));
    parts.extend(encoders.iter_mut().map(|part| part as &mut dyn TrainedPart));
    parts
}
