//! What is mixed how: the kind of a mixer, and the plugin of its fusion if it has one.

use crate::{plugin::Library, registry::MixerKind};
use merv_plugin_api::{MixerInfo, MixerRequest};
use std::sync::Arc;

/// The prefix of the names of a fusion's tensors.
pub(super) const FUSION_PREFIX: &str = "feature_fusion.";

/// A fusion or a whole mixer of a plugin that has described it.
#[derive(Debug, Clone)]
pub struct FusionPlugin {
    /// Its plugin.
    pub library: Arc<Library>,
    /// The request to the plugin.
    pub request: MixerRequest,
    /// The plugin's description of the fusion.
    pub info: MixerInfo,
}

/// The kind of a mixer, with the plugin of its fusion.
#[derive(Debug, Clone, Copy)]
pub struct MixerModel<'p> {
    /// The kind.
    pub kind: MixerKind,
    /// The plugin, if the kind of the fusion is [`FusionKind::Plugin`](crate::registry::FusionKind::Plugin).
    pub plugin: Option<&'p FusionPlugin>,
}

impl<'p> MixerModel<'p> {
    /// Returns a mixer with a fusion of a plugin, if there is one.
    pub fn new(kind: MixerKind, plugin: Option<&'p FusionPlugin>) -> Self {
        Self { kind, plugin }
    }
}

impl From<MixerKind> for MixerModel<'_> {
    fn from(kind: MixerKind) -> Self {
        Self { kind, plugin: None }
    }
}
