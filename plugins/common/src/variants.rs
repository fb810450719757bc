//! The model ids of a plugin: one table says what each of them is.

use crate::Result;
use merv_plugin_api::{Manifest, PluginError};

/// One encoder id, and what the plugin makes of it.
pub struct Variant<T> {
    /// The id that registries write.
    pub id: &'static str,
    /// The licence of the weights, and where they are published.
    pub license: &'static str,
    /// What tells it from the plugin's other encoders.
    pub model: T,
}

/// The row of `id`.
///
/// # Errors
///
/// When there is none; the message lists those that there are.
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

/// `manifest` with every row of the table as an encoder.
#[must_use]
pub fn listed<T>(manifest: Manifest, variants: &[Variant<T>]) -> Manifest {
    variants.iter().fold(manifest, |manifest, variant| {
        manifest.encoder(variant.id, variant.license)
    })
}
