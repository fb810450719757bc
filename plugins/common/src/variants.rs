//! The model ids of a plugin, in a table.

use crate::Result;
use merv_plugin_api::{Manifest, PluginError};

/// One encoder of a plugin.
pub struct Variant<T> {
    /// The id in registries.
    pub id: &'static str,
    /// The licence of the weights and where they are published.
    pub license: &'static str,
    /// What distinguishes it from the plugin's other encoders.
    pub model: T,
}

/// Returns the model of the encoder `id`.
///
/// # Errors
///
/// When the table has no such encoder. The message lists all of them.
pub fn find<'a, T>(variants: &'a [Variant<T>], id: &str) -> Result<&'a T> {
    let row = variants.iter().find(|variant| variant.id == id);
    row.map(|variant| &variant.model).ok_or_else(|| {
        let known: Vec<_> = variants.iter().map(|variant| variant.id).collect();
        PluginError::invalid(format!(
            "expected one of the encoders {}; found `{id}`",
            known.join(", ")
        ))
    })
}

/// Adds every encoder of the table to `manifest`.
#[must_use]
pub fn listed<T>(manifest: Manifest, variants: &[Variant<T>]) -> Manifest {
    variants.iter().fold(manifest, |manifest, variant| {
        manifest.encoder(variant.id, variant.license)
    })
}
