//! Planning what a registry loads. The plugins are loaded and describe their models, and the parts are checked
//! against each other. Weights are not loaded.

mod mixer;
mod options;
mod planned;
mod planner;
mod plugins;
mod requested;

pub use mixer::{MixerTensor, PlannedFusion, PlannedMixer, UntrainedMixer};
pub use options::LoadOptions;
pub(crate) use planned::shape_of;
pub use planned::{PlannedEncoder, PlannedLlm};

use crate::{
    Error,
    mixer::EncoderShape,
    model::{files::Files, published},
    registry::{DescribedEncoder, PluginRef, Registry},
};
use planner::Planner;

/// A registry whose plugins are loaded and have described their models.
pub struct Plan {
    /// The registry.
    pub registry: Registry,
    /// Its encoders, in order.
    pub encoders: Vec<PlannedEncoder>,
    /// Its language model.
    pub llm: PlannedLlm,
    /// Its mixer.
    pub mixer: PlannedMixer,
    /// The number of compute threads.
    pub threads: usize,
}

impl Plan {
    /// Loads the plugins of `registry` and requests descriptions of their models. Nothing is downloaded.
    ///
    /// # Errors
    ///
    /// Returns all problems: plugins that cannot be loaded, unknown models, parts that do not fit together, and
    /// missing files with the sizes of a model.
    pub fn new(registry: Registry, options: &LoadOptions) -> Result<Self, Error> {
        let files = Files::new(&registry, &options.hub);
        Self::with(registry, options, &files)
    }

    /// Does the same as [`Self::new`], with files that were downloaded before.
    pub(crate) fn with(
        registry: Registry,
        options: &LoadOptions,
        files: &Files,
    ) -> Result<Self, Error> {
        let registry = options.overridden(registry);
        published::check(&registry, files)?;
        let planner = Planner::new(&registry.path, options, files);
        let encoders = Error::collect(registry.encoders.iter().map(|entry| planner.encoder(entry)));
        let models = Error::both(encoders, planner.llm(&registry.llm));
        let mixer = registry.mixer.weights.source();
        let mixer = mixer.map_or(Ok(None), |source| planner.readable(source));
        let ((encoders, llm), mixer) = Error::both(models, mixer)?;
        let width = llm.info.width as usize;
        let mut registry = registry;
        name_plugins(&mut registry, &encoders, &llm);
        registry.check_tokens(&described(&registry, &encoders), width)?;
        // A mixer is a single file. No mixer is published in shards.
        let path = mixer.and_then(|paths| paths.into_iter().next());
        let fusion = planner.fusion(&registry, &encoders, llm.info.width)?;
        let shapes = shapes(&encoders);
        let mixer = PlannedMixer::new(&registry.mixer, fusion, &shapes, width, path.as_deref())?;
        Ok(Self {
            threads: planner.threads,
            registry,
            encoders,
            mixer,
            llm,
        })
    }

    /// Returns the number of tokens of each encoder after its projector.
    pub fn projected_tokens(&self) -> Vec<usize> {
        let kind = self.registry.mixer.kind;
        let shapes = self.shapes();
        let tokens = shapes
            .iter()
            .map(|shape| kind.projected_tokens(shape.temporal, shape.spatial));
        tokens.collect()
    }

    /// Returns the output shapes of the encoders for the mixer.
    pub fn shapes(&self) -> Vec<EncoderShape> {
        shapes(&self.encoders)
    }
}

/// Replaces plugins that were chosen by their names, which a report of the model needs.
fn name_plugins(registry: &mut Registry, encoders: &[PlannedEncoder], llm: &PlannedLlm) {
    let planned = encoders
        .iter()
        .map(|planned| &planned.library)
        .chain([&llm.library]);
    let encoders = registry.encoders.iter_mut().map(|entry| &mut entry.plugin);
    let entries = encoders.chain([&mut registry.llm.plugin]);
    for (entry, library) in entries.zip(planned) {
        if !matches!(entry, PluginRef::Library { .. }) {
            *entry = PluginRef::Name(library.manifest().name.clone());
        }
    }
}

fn described(registry: &Registry, encoders: &[PlannedEncoder]) -> Vec<DescribedEncoder> {
    let pairs = registry.encoders.iter().zip(encoders);
    let described = pairs.map(|(entry, planned)| DescribedEncoder {
        id: entry.id.clone(),
        temporal: planned.info.temporal as usize,
        spatial: planned.info.spatial as usize,
        width: planned.info.width as usize,
    });
    described.collect()
}

fn shapes(encoders: &[PlannedEncoder]) -> Vec<EncoderShape> {
    let shapes = encoders.iter().map(|planned| shape_of(&planned.info));
    shapes.collect()
}

/// Plans only the encoders of a registry that was read with [`LoadOptions::registry`], in the same way as
/// [`Plan::new`].
///
/// # Errors
///
/// Returns all problems with the encoders.
pub(crate) fn encoders(
    registry: &Registry,
    options: &LoadOptions,
    files: &Files,
) -> Result<Vec<PlannedEncoder>, Error> {
    let planner = Planner::new(&registry.path, options, files);
    Error::collect(registry.encoders.iter().map(|entry| planner.encoder(entry)))
}
