//! The plan of a mixer.

use crate::{
    mixer::{
        self, Cost, EncoderShape, FusionPlugin, MixerError, MixerModel, MixerPlan,
        PUBLISHED_QUERY_WIDTH, PlannedTensor,
    },
    plugin::Choice,
    registry::{MixerEntry, MixerWeights},
};
use serde::Serialize;
use std::path::Path;

/// A mixer that can be loaded.
#[derive(Debug, Clone)]
pub struct PlannedMixer {
    /// Its cost.
    pub cost: Cost,
    /// Its initialisation, if it has not been trained.
    pub untrained: Option<UntrainedMixer>,
    /// The fusion, if a plugin brings it.
    pub fusion: Option<PlannedFusion>,
}

/// A fusion or a whole mixer that a plugin brings.
#[derive(Debug, Clone)]
pub struct PlannedFusion {
    /// The fusion, as the plugin described it.
    pub plugin: FusionPlugin,
    /// Why this plugin was taken.
    pub choice: Choice,
}

/// The initialisation of a mixer that has not been trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UntrainedMixer {
    /// The seed of the new tensors.
    pub seed: u64,
    /// The file whose tensors are reused.
    pub reuse: Option<String>,
    /// The tensors that are initialised from the seed. `None` if the file is not on this machine.
    pub new: Option<Vec<MixerTensor>>,
    /// The tensors that are reused from the file. `None` if the file is not on this machine.
    pub reused: Option<Vec<MixerTensor>>,
    /// A warning about listed encoders of the file that this registry does not have.
    pub notice: Option<String>,
}

/// A tensor of a mixer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MixerTensor {
    /// Its name in MERV's checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its name in the file that it is reused from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl From<&PlannedTensor> for MixerTensor {
    fn from(tensor: &PlannedTensor) -> Self {
        Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            from: tensor.from.clone(),
        }
    }
}

impl PlannedMixer {
    /// Plans a mixer. `path` is the file of its weights, or the file that it reuses, if it is on this machine.
    pub(super) fn new(
        entry: &MixerEntry,
        fusion: Option<PlannedFusion>,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: Option<&Path>,
    ) -> Result<Self, MixerError> {
        let plugin = fusion.as_ref().map(|fusion| &fusion.plugin);
        let model = MixerModel::new(entry.kind, plugin);
        let cost = |query_width| mixer::cost(model, encoders, llm_width, query_width);
        let init = match &entry.weights {
            MixerWeights::Init(init) => init,
            MixerWeights::Trained(_) => {
                return Ok(Self {
                    cost: cost(mixer::query_width(entry.kind, path)?),
                    untrained: None,
                    fusion,
                });
            }
        };
        let mut untrained = UntrainedMixer {
            seed: init.seed,
            reuse: init.reuse.as_ref().map(|reuse| reuse.weights.to_string()),
            new: None,
            reused: None,
            notice: entry.weights.unknown_encoders(),
        };
        let mut query_width = init.query_width.unwrap_or(PUBLISHED_QUERY_WIDTH);
        if path.is_some() || init.reuse.is_none() {
            let mixer_plan = MixerPlan::new(model, encoders, llm_width, init, path)?;
            let tensors = mixer_plan.tensors.iter().map(MixerTensor::from);
            let (reused, new) = tensors.partition(|tensor| tensor.from.is_some());
            untrained.reused = Some(reused);
            untrained.new = Some(new);
            query_width = mixer_plan.query_width;
        }
        Ok(Self {
            cost: cost(query_width),
            untrained: Some(untrained),
            fusion,
        })
    }
}
