//! Builds a mixer from a file or from initial values, or only collects the specifications of its tensors.

use super::{
    EncoderShape, MixerError,
    forward::Mixer,
    fusion::Fusion,
    model::MixerModel,
    parameters::{Collected, Origin, Parameter, Scope, TensorSpec, Unused},
    projector::Projector,
};
use crate::registry::FusionKind;
use merv_architectures::mixer::fusion::{PUBLISHED_QUERY_WIDTH, UNUSED};
use merv_checkpoint::{Checkpoint, published};
use merv_plugin_api::MixerInfo;
use merv_plugin_sdk::{PluginError, Result, weights};
use std::path::Path;

/// Builds the parts of a mixer with tensors from `scope`. The widths are those of the language model and of the
/// learned query.
fn build(
    model: MixerModel<'_>,
    encoders: &[EncoderShape],
    (llm_width, query_width): (usize, usize),
    scope: &Scope<'_>,
) -> Result<(Vec<Projector>, Fusion)> {
    let kind = model.kind;
    if !kind.is_of_plugin() {
        kind.projector
            .runnable(encoders.len())
            .map_err(PluginError::invalid)?;
    }
    let projectors = encoders.iter().enumerate().map(|(index, encoder)| {
        let scope = scope.pp("projectors").pp(index);
        Projector::new(kind, *encoder, llm_width, &scope)
    });
    let projectors = projectors.collect::<Result<_>>()?;
    let fusion = Fusion::new(model, encoders.len(), llm_width, query_width, scope)?;
    Ok((projectors, fusion))
}

impl Mixer {
    /// Loads a mixer for these encoders, in order, from the file `path`.
    ///
    /// # Errors
    ///
    /// When `kind` cannot mix these encoders, the file cannot be read, or its tensors are not those of this mixer.
    pub fn new<'p>(
        model: impl Into<MixerModel<'p>>,
        encoders: &[EncoderShape],
        llm_width: usize,
        path: &Path,
    ) -> std::result::Result<Self, MixerError> {
        let model = model.into();
        let checkpoint = weights::open(&[path.to_path_buf()], published::mixer_name)?;
        let query_width = query_width(&checkpoint).unwrap_or(PUBLISHED_QUERY_WIDTH);
        let unused: Vec<String> = match model.kind.fusion {
            FusionKind::CrossAttentionAvgLq => UNUSED
                .map(|name| format!("feature_fusion.attention.{name}"))
                .into(),
            _ => Vec::new(),
        };
        let stored = unused
            .iter()
            .filter_map(|name| Some((name.clone(), Unused::Stored(checkpoint.get(name)?.clone()))));
        let stored = stored.collect();
        let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
        let collected = Collected::default();
        let widths = (llm_width, query_width);
        let (projectors, fusion) = weights::load_checkpoint(checkpoint, &unused, |scope| {
            let scope = Scope::root(Origin::File(scope), &collected);
            build(model, encoders, widths, &scope)
        })?;
        let parameters = collected.into_parameters();
        Ok(Self {
            projectors,
            fusion,
            info: describe(model, encoders, widths, &parameters),
            parameters,
            unused: stored,
        })
    }
}

/// Returns the specifications of all tensors of a mixer, without creating them.
pub(super) fn specs(
    model: MixerModel<'_>,
    encoders: &[EncoderShape],
    llm_width: usize,
    query_width: usize,
) -> Result<Vec<TensorSpec>> {
    let collected = Collected::default();
    let scope = Scope::root(Origin::Nowhere, &collected);
    build(model, encoders, (llm_width, query_width), &scope)?;
    Ok(collected.into_specs())
}

/// Builds a mixer with all tensors of `reused`; the others are initialised from `seed`.
pub(super) fn untrained(
    model: MixerModel<'_>,
    encoders: &[EncoderShape],
    widths: (usize, usize),
    seed: u64,
    specs: Vec<TensorSpec>,
    reused: Option<Checkpoint>,
) -> std::result::Result<Mixer, MixerError> {
    let unused = specs.into_iter().filter(|tensor| !tensor.is_used);
    let unused = unused.map(|tensor| {
        let name = tensor.name.clone();
        let stored = reused.as_ref().and_then(|reused| reused.get(&name));
        let unused = stored.map_or(Unused::Init(tensor, seed), |stored| {
            Unused::Stored(stored.clone())
        });
        (name, unused)
    });
    let unused: Vec<(String, Unused)> = unused.collect();
    let names: Vec<&str> = unused.iter().map(|(name, _)| name.as_str()).collect();
    let collected = Collected::default();
    let make = |reused: Option<weights::Scope<'_>>| {
        let scope = Scope::root(Origin::Init(seed, reused), &collected);
        build(model, encoders, widths, &scope)
    };
    let (projectors, fusion) = match reused {
        Some(reused) => weights::load_checkpoint(reused, &names, |scope| make(Some(scope)))?,
        None => make(None)?,
    };
    let parameters = collected.into_parameters();
    Ok(Mixer {
        projectors,
        fusion,
        info: describe(model, encoders, widths, &parameters),
        parameters,
        unused,
    })
}

/// Describes a mixer as plugins describe theirs. The widths are those of the language model and of the learned query.
fn describe(
    model: MixerModel<'_>,
    encoders: &[EncoderShape],
    (llm_width, query_width): (usize, usize),
    parameters: &[Parameter],
) -> MixerInfo {
    let kind = model.kind;
    let projected = encoders.iter();
    let projected = projected.map(|shape| kind.projected_tokens(shape.temporal, shape.spatial));
    let tokens = kind.visual_tokens(&projected.collect::<Vec<_>>());
    let cost = super::cost::cost(model, encoders, llm_width, query_width);
    let mut info = MixerInfo::new(tokens as u32).cost(cost.macs, 0);
    for parameter in parameters {
        info = info.parameter(&parameter.name, parameter.var.dims());
    }
    let of_plugin = model.plugin.map(|plugin| &plugin.info);
    let of_plugin_parameters = of_plugin.into_iter().flat_map(|info| &info.parameters);
    info.parameters.extend(of_plugin_parameters.cloned());
    info.weighs = kind.fusion.weighs() || of_plugin.is_some_and(|info| info.weighs);
    info
}

/// Returns the width of the learned query in the tensors of a mixer.
pub(super) fn query_width(stored: &Checkpoint) -> Option<usize> {
    stored.get("feature_fusion.Q")?.shape.last().copied()
}
