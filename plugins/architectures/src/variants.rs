//! The model ids of a plugin, in a table.

use crate::Result;
use merv_plugin_api::{PluginError, Provided};

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

/// Returns the encoders of the table for the manifest, each with the same `features`
/// ([`merv_plugin_api::feature`]).
pub const fn provided<T, const N: usize>(
    variants: &[Variant<T>; N],
    features: &'static [&'static str],
) -> [Provided; N] {
    let mut all = [Provided::encoder("", ""); N];
    let mut index = 0;
    while index < N {
        let Variant { id, license, .. } = &variants[index];
        all[index] = Provided::encoder(id, license).features(features);
        index += 1;
    }
    all
}
