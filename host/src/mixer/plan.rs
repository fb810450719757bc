//! A mixer that has not been trained: which of its tensors are new, and which are taken from another one.

use super::{
    EncoderShape, MixerError, forward::Mixer, fusion::PUBLISHED_QUERY_WIDTH, load,
    parameters::TensorSpec,
};
use crate::registry::{MixerEntry, MixerInit, MixerKind, MixerWeights};
use merv_checkpoint::{Checkpoint, StoredDtype, StoredTensor, published};
use merv_plugin_sdk::{PluginError, weights};
use std::path::Path;

/// A mixer that can be begun: every tensor is known, and none is made.
pub struct MixerPlan {
    /// The seed of the tensors that are new.
    pub seed: u64,
    /// The width of the learned query of `cross_attention_avg_lq`.
    pub query_width: usize,
    /// The tensors, in the order in which the data meet them.
    pub tensors: Vec<PlannedTensor>,
    kind: MixerKind,
    specs: Vec<TensorSpec>,
    /// What is taken from another mixer, under its names here.
    reused: Option<Checkpoint>,
}

/// A tensor of a mixer that has not been trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name in MERV's checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The name of the tensor of another mixer that it is taken from; none if it is new.
    pub from: Option<String>,
}

impl MixerPlan {
    /// How the mixer begins that `init` describes. `reuse` is the file that tensors are taken from, if `init` names
    /// one and it is on this machine.
    ///
    /// # Errors
    ///
    /// When `kind` cannot mix these encoders, or the file cannot be read or has nothing that fits.
    pub fn new(
        kind: MixerKind,
        encoders: &[EncoderShape],
        llm_width: usize,
        init: &MixerInit,
        reuse: Option<&Path>,
    ) -> Result<Self, MixerError> {
        let projectors = init
            .reuse
            .as_ref()
            .and_then(|reuse| reuse.projectors.as_deref());
        let names = NameMap { kind, projectors };
        let stored = reuse.map(|path| {
            let all = weights::open(&[path.to_path_buf()], published::mixer_name)?;
            check_list(path, &all, init)?;
            let renamed = all.rename(|name| names.target(name));
            renamed.map_err(|error| PluginError::weights(&error))
        });
        let stored = stored.transpose()?;
        let query_width = init
            .query_width
            .or_else(|| load::query_width(stored.as_ref()?));
        let query_width = query_width.unwrap_or(PUBLISHED_QUERY_WIDTH);
        let specs = load::specs(kind, encoders, llm_width, query_width)?;
        let taken = |tensor: &TensorSpec| {
            let stored = stored.as_ref()?.get(&tensor.name)?;
            fits(tensor, stored).then(|| names.source(&tensor.name))
        };
        let tensors: Vec<PlannedTensor> = specs
            .iter()
            .map(|tensor| PlannedTensor {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                from: taken(tensor),
            })
            .collect();
        if let Some(path) = reuse
            && tensors.iter().all(|tensor| tensor.from.is_none())
        {
            return Err(nothing_fits(path, &tensors).into());
        }
        let is_taken = |name: &str| {
            let mut taken = tensors.iter().filter(|tensor| tensor.from.is_some());
            taken.any(|tensor| tensor.name == name)
        };
        let reused = stored.map(|stored| {
            let renamed = stored.rename(|name| is_taken(name).then(|| name.to_owned()));
            renamed.map_err(|error| PluginError::weights(&error))
        });
        Ok(Self {
            seed: init.seed,
            query_width,
            kind,
            reused: reused.transpose()?,
            tensors,
            specs,
        })
    }

    /// The mixer.
    ///
    /// # Errors
    ///
    /// When there is not enough memory for it.
    pub fn build(self, encoders: &[EncoderShape], llm_width: usize) -> Result<Mixer, MixerError> {
        load::untrained(
            self.kind,
            encoders,
            (llm_width, self.query_width),
            self.seed,
            self.specs,
            self.reused,
        )
    }
}

impl Mixer {
    /// The mixer that a registry describes, for these encoders, in order. `path` is the file of its weights, or the one
    /// that a mixer which has not been trained reuses.
    ///
    /// # Errors
    ///
    /// As [`Self::new`] and [`MixerPlan::new`].
    pub(crate) fn load(
        entry: &MixerEntry,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: Option<&Path>,
    ) -> std::result::Result<Self, MixerError> {
        match (&entry.weights, path) {
            (MixerWeights::Init(init), _) => {
                let plan = MixerPlan::new(entry.kind, encoders, llm_width, init, path)?;
                plan.build(encoders, llm_width)
            }
            (MixerWeights::Trained(_), Some(path)) => {
                Self::new(entry.kind, encoders, llm_width, path)
            }
            (MixerWeights::Trained(weights), None) => {
                let why = format!("its weights {weights} are not on this machine");
                Err(PluginError::weights(why).into())
            }
        }
    }
}

/// What the tensors of another mixer are called here.
struct NameMap<'n> {
    kind: MixerKind,
    /// Of each encoder the number of its projector there; where it is not said, the same numbers.
    projectors: Option<&'n [Option<usize>]>,
}

impl NameMap<'_> {
    fn target(&self, source: &str) -> Option<String> {
        let Some((number, rest)) = projector(source) else {
            return self.has_same_fusion().then(|| source.to_owned());
        };
        let Some(projectors) = self.projectors else {
            return Some(source.to_owned());
        };
        let here = projectors.iter().position(|&from| from == Some(number))?;
        Some(format!("projectors.{here}.{rest}"))
    }

    fn source(&self, target: &str) -> String {
        let number = |(number, rest)| {
            let there = (*self.projectors?.get::<usize>(number)?)?;
            Some(format!("projectors.{there}.{rest}"))
        };
        projector(target)
            .and_then(number)
            .unwrap_or_else(|| target.to_owned())
    }

    /// Whether the tensors of the fusion mean the same here: some hold a part for each encoder, in order.
    fn has_same_fusion(&self) -> bool {
        let in_order = |projectors: &[Option<usize>]| {
            let mut numbered = projectors.iter().enumerate();
            numbered.all(|(here, there)| *there == Some(here))
        };
        let is_in_order = self.projectors.is_none_or(in_order);
        is_in_order || !self.kind.fusion.has_part_per_encoder()
    }
}

/// `projectors.2.rest` in its parts.
fn projector(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.strip_prefix("projectors.")?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn fits(tensor: &TensorSpec, stored: &StoredTensor) -> bool {
    use StoredDtype::{BF16, F16, F32};
    tensor.shape == stored.shape && matches!(stored.dtype, F32 | F16 | BF16)
}

/// That as many encoders of another mixer are listed as it has projectors.
fn check_list(path: &Path, stored: &Checkpoint, init: &MixerInit) -> Result<(), PluginError> {
    let listed = match &init.reuse {
        Some(reuse) if reuse.projectors.is_some() => reuse.encoders.len(),
        _ => return Ok(()),
    };
    let numbers = stored.iter().filter_map(|(name, _)| projector(name));
    let there = numbers.map(|(number, _)| number + 1).max();
    match there {
        Some(there) if there != listed => Err(PluginError::weights(format!(
            "`encoders` in `reuse` lists another number of encoders than {} has\n  expected: {there}, one for each of \
             its projectors\n  found: {listed}\n  do: copy the ids of its registry, in their order",
            path.display()
        ))),
        // Projectors without tensors cannot be counted.
        _ => Ok(()),
    }
}

fn nothing_fits(path: &Path, tensors: &[PlannedTensor]) -> PluginError {
    let first = tensors.first().map_or_else(String::new, |tensor| {
        format!(", such as `{}` {:?}", tensor.name, tensor.shape)
    });
    PluginError::weights(format!(
        "no tensor of {} fits it\n  expected: a mixer's weights of which at least one tensor has a name and a shape \
         that this mixer has{first}\n  do: name another file in `reuse`, list its encoders in `encoders`, or remove \
         `reuse`",
        path.display()
    ))
}
