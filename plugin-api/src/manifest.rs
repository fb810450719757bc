//! The manifest of a library: JSON behind a C symbol, which the host reads before it trusts anything else.

use serde::{Deserialize, Serialize};

/// The version of this ABI, `major.minor.patch`. The host checks it before it uses a library.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The C symbol `extern "C" fn() -> *const c_char`. It returns the manifest as NUL-terminated JSON that
/// is never freed, or null if the manifest could not be made.
pub const MANIFEST_SYMBOL: &str = "merv_plugin_manifest";

/// Encoder or language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Turns clips into features.
    Encoder,
    /// Turns embeddings into logits.
    Llm,
}

/// One model that a plugin can load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// The id that registries use.
    pub id: String,
    /// Encoder or language model.
    pub kind: ModelKind,
    /// The licence of the weights that a user downloads for it.
    pub license: String,
    /// Whether the model has no weights, so that a registry may omit them. Older plugins do not write
    /// this key, and older hosts ignore it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_weights: bool,
}

/// The manifest of a plugin. Unknown keys are ignored, so newer plugins can still be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name of the plugin in registries.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// The version of this ABI that the plugin was built against.
    pub api_version: String,
    /// The licence of the plugin's code.
    pub license: String,
    /// The library that the plugin computes with: `candle`, `libtorch`, …
    pub backend: String,
    /// The kinds of device that the plugin can run on: `cpu`, `cuda`.
    pub devices: Vec<String>,
    /// The models that the plugin can load.
    pub models: Vec<ModelManifest>,
}

impl Manifest {
    /// Makes a manifest of this API version, for the CPU, without models.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            api_version: API_VERSION.to_owned(),
            license: "not stated".to_owned(),
            backend: "own".to_owned(),
            devices: vec!["cpu".to_owned()],
            models: Vec::new(),
        }
    }

    /// Sets the licence of the plugin's code.
    #[must_use]
    pub fn license(mut self, license: &str) -> Self {
        license.clone_into(&mut self.license);
        self
    }

    /// Sets the library that the plugin computes with.
    #[must_use]
    pub fn backend(mut self, backend: &str) -> Self {
        backend.clone_into(&mut self.backend);
        self
    }

    /// Adds an encoder with the licence of its weights.
    #[must_use]
    pub fn encoder(self, id: &str, weights_license: &str) -> Self {
        self.model(id, ModelKind::Encoder, weights_license, false)
    }

    /// Adds an encoder without weights: a registry may omit `weights`.
    #[must_use]
    pub fn encoder_without_weights(self, id: &str) -> Self {
        self.model(id, ModelKind::Encoder, "no weights", true)
    }

    /// Adds a language model with the licence of its weights.
    #[must_use]
    pub fn llm(self, id: &str, weights_license: &str) -> Self {
        self.model(id, ModelKind::Llm, weights_license, false)
    }

    fn model(mut self, id: &str, kind: ModelKind, license: &str, without_weights: bool) -> Self {
        self.models.push(ModelManifest {
            id: id.to_owned(),
            kind,
            license: license.to_owned(),
            without_weights,
        });
        self
    }
}
