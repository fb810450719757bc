//! An untrained mixer: which of its tensors are new, and which are reused from another mixer.

use super::{
    EncoderShape, FusionPlugin, MixerError, MixerModel, forward::Mixer, load,
    parameters::TensorSpec,
};
use crate::registry::{MixerEntry, MixerInit, MixerKind, MixerWeights};
use merv_architectures::mixer::fusion::PUBLISHED_QUERY_WIDTH;
use merv_checkpoint::{Checkpoint, StoredDtype, StoredTensor, published};
use merv_plugin_sdk::{PluginError, weights};
use std::path::Path;

/// The plan of an untrained mixer. All tensors are known, but they are not created yet.
pub struct MixerPlan {
    /// The seed of the new tensors.
    pub seed: u64,
    /// The width of the learned query of `cross_attention_avg_lq`.
    pub query_width: usize,
    /// The tensors, in the order of the computation.
    pub tensors: Vec<PlannedTensor>,
    kind: MixerKind,
    plugin: Option<FusionPlugin>,
    specs: Vec<TensorSpec>,
    /// The tensors that are reused from another mixer, under their new names.
    reused: Option<Checkpoint>,
}

/// A tensor of an untrained mixer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name in MERV's checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The name of the tensor of the other mixer that is reused; `None` if the tensor is new.
    pub from: Option<String>,
}

impl MixerPlan {
    /// Plans the mixer that `init` describes. `reuse` is the file with the tensors to reuse, if `init` specifies one and
    /// it is on this machine.
    ///
    /// # Errors
    ///
    /// When `kind` does not support these encoders, or the file cannot be read or does not contain a matching tensor.
    pub fn new<'p>(
        model: impl Into<MixerModel<'p>>,
        encoders: &[EncoderShape],
        llm_width: usize,
        init: &MixerInit,
        reuse: Option<&Path>,
    ) -> Result<Self, MixerError> {
        let model = model.into();
        let kind = model.kind;
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
        let specs = load::specs(model, encoders, llm_width, query_width)?;
        let source_of = |tensor: &TensorSpec| {
            let stored = stored.as_ref()?.get(&tensor.name)?;
            fits(tensor, stored).then(|| names.source(&tensor.name))
        };
        let tensors: Vec<PlannedTensor> = specs
            .iter()
            .map(|tensor| PlannedTensor {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                from: source_of(tensor),
            })
            .collect();
        if let Some(path) = reuse
            && tensors.iter().all(|tensor| tensor.from.is_none())
        {
            return Err(nothing_fits(path, &tensors).into());
        }
        let is_reused = |name: &str| {
            let mut reused = tensors.iter().filter(|tensor| tensor.from.is_some());
            reused.any(|tensor| tensor.name == name)
        };
        let reused = stored.map(|stored| {
            let renamed = stored.rename(|name| is_reused(name).then(|| name.to_owned()));
            renamed.map_err(|error| PluginError::weights(&error))
        });
        Ok(Self {
            seed: init.seed,
            query_width,
            kind,
            plugin: model.plugin.cloned(),
            reused: reused.transpose()?,
            tensors,
            specs,
        })
    }

    /// Builds the mixer.
    ///
    /// # Errors
    ///
    /// When there is not enough memory.
    pub fn build(self, encoders: &[EncoderShape], llm_width: usize) -> Result<Mixer, MixerError> {
        load::untrained(
            MixerModel::new(self.kind, self.plugin.as_ref()),
            encoders,
            (llm_width, self.query_width),
            self.seed,
            self.specs,
            self.reused,
        )
    }
}

impl Mixer {
    /// Loads the mixer of a registry for these encoders, in order. `path` is the file of its weights or, if it is
    /// untrained, the file with the tensors to reuse.
    ///
    /// # Errors
    ///
    /// Like [`Self::new`] and [`MixerPlan::new`].
    pub(crate) fn load(
        entry: &MixerEntry,
        plugin: Option<&FusionPlugin>,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: Option<&Path>,
    ) -> std::result::Result<Self, MixerError> {
        let model = MixerModel::new(entry.kind, plugin);
        match (&entry.weights, path) {
            (MixerWeights::Init(init), _) => {
                let plan = MixerPlan::new(model, encoders, llm_width, init, path)?;
                plan.build(encoders, llm_width)
            }
            (MixerWeights::Trained(_), Some(path)) => Self::new(model, encoders, llm_width, path),
            (MixerWeights::Trained(weights), None) => {
                let why = format!("its weights {weights} are not on this machine");
                Err(PluginError::weights(why).into())
            }
        }
    }
}

/// Maps the tensor names of another mixer to the names in this one.
struct NameMap<'n> {
    kind: MixerKind,
    /// For each encoder, the index of its projector in the other mixer. `None` means the same indices.
    projectors: Option<&'n [Option<usize>]>,
}

impl NameMap<'_> {
    /// Returns the name in this mixer of the tensor `source` of the other mixer.
    fn target(&self, source: &str) -> Option<String> {
        let Some((number, rest)) = projector(source) else {
            return self.has_same_fusion().then(|| source.to_owned());
        };
        let Some(projectors) = self.projectors else {
            return Some(source.to_owned());
        };
        let index = projectors.iter().position(|&from| from == Some(number))?;
        Some(format!("projectors.{index}.{rest}"))
    }

    /// Returns the name in the other mixer of the tensor `target` of this mixer.
    fn source(&self, target: &str) -> String {
        let number = |(number, rest)| {
            let index = (*self.projectors?.get::<usize>(number)?)?;
            Some(format!("projectors.{index}.{rest}"))
        };
        projector(target)
            .and_then(number)
            .unwrap_or_else(|| target.to_owned())
    }

    /// Returns whether the tensors of the fusion can be reused. Some of them contain a part for each encoder, in order.
    fn has_same_fusion(&self) -> bool {
        let in_order = |projectors: &[Option<usize>]| {
            let mut numbered = projectors.iter().enumerate();
            numbered.all(|(target, source)| *source == Some(target))
        };
        let is_in_order = self.projectors.is_none_or(in_order);
        is_in_order || !self.kind.fusion.has_part_per_encoder()
    }
}

/// Splits `projectors.2.rest` into the index and the rest.
fn projector(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.strip_prefix("projectors.")?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn fits(tensor: &TensorSpec, stored: &StoredTensor) -> bool {
    use StoredDtype::{BF16, F16, F32};
    tensor.shape == stored.shape && matches!(stored.dtype, F32 | F16 | BF16)
}

/// Checks that the list of the other mixer's encoders has as many entries as the mixer has projectors.
fn check_list(path: &Path, stored: &Checkpoint, init: &MixerInit) -> Result<(), PluginError> {
    let listed = match &init.reuse {
        Some(reuse) if reuse.projectors.is_some() => reuse.encoders.len(),
        _ => return Ok(()),
    };
    let numbers = stored.iter().filter_map(|(name, _)| projector(name));
    let projectors = numbers.map(|(number, _)| number + 1).max();
    match projectors {
        Some(projectors) if projectors != listed => Err(PluginError::weights(format!(
            "`encoders` in `reuse` does not match the number of encoders of {}\n  expected: {projectors} ids, one for each \
             of its projectors\n  found: {listed}\n  do: copy the ids from its registry, in the same order",
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
        "no tensor in {} matches a tensor of this mixer\n  expected: the weights of a mixer, with at least one tensor \
         of the same name and shape as in this mixer{first}\n  do: set another file in `reuse`, list its encoders in \
         `encoders`, or remove `reuse`",
        path.display()
    ))
}
