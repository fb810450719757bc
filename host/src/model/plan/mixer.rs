//! A mixer that could be loaded.

use crate::{
    mixer::{
        self, Cost, EncoderShape, MixerError, MixerPlan, PUBLISHED_QUERY_WIDTH, PlannedTensor,
    },
    registry::{MixerEntry, MixerWeights},
};
use serde::Serialize;
use std::path::Path;

/// A mixer that could be loaded.
#[derive(Debug, Clone)]
pub struct PlannedMixer {
    /// What it costs.
    pub cost: Cost,
    /// How it begins, if it has not been trained.
    pub untrained: Option<Untrained>,
}

/// How a mixer begins that has not been trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Untrained {
    /// The seed of what is new.
    pub seed: u64,
    /// The file that tensors are taken from.
    pub reuse: Option<String>,
    /// Tensors that are made from the seed. What is new is not known while the file is not on this machine.
    pub new: Option<Vec<Tensor>>,
    /// Tensors that are taken from the file.
    pub reused: Option<Vec<Tensor>>,
    /// What to know of encoders that the file is said to have, and that are not here.
    pub notice: Option<String>,
}

/// A tensor of a mixer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its name in MERV's checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its name in the file that it is taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl From<&PlannedTensor> for Tensor {
    fn from(tensor: &PlannedTensor) -> Self {
        Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            from: tensor.from.clone(),
        }
    }
}

impl PlannedMixer {
    /// `path` is the file of its weights, or the one that it reuses, if it is on this machine.
    pub(super) fn new(
        entry: &MixerEntry,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: Option<&Path>,
    ) -> Result<Self, MixerError> {
        let cost = |query_width| mixer::cost(entry.kind, encoders, llm_width, query_width);
        let init = match &entry.weights {
            MixerWeights::Init(init) => init,
            MixerWeights::Trained(_) => {
                return Ok(Self {
                    cost: cost(mixer::query_width(entry.kind, path)?),
                    untrained: None,
                });
            }
        };
        let mut untrained = Untrained {
            seed: init.seed,
            reuse: init.reuse.as_ref().map(|reuse| reuse.weights.to_string()),
            new: None,
            reused: None,
            notice: entry.weights.strangers(),
        };
        let mut query_width = init.query_width.unwrap_or(PUBLISHED_QUERY_WIDTH);
        if path.is_some() || init.reuse.is_none() {
            let mixer_plan = MixerPlan::new(entry.kind, encoders, llm_width, init, path)?;
            let tensors = mixer_plan.tensors.iter().map(Tensor::from);
            let (reused, new) = tensors.partition(|tensor| tensor.from.is_some());
            untrained.reused = Some(reused);
            untrained.new = Some(new);
            query_width = mixer_plan.query_width;
        }
        Ok(Self {
            cost: cost(query_width),
            untrained: Some(untrained),
        })
    }
}
