//! Reading of manifests. A manifest is data in a section of the library's file: nothing of the library runs.

use super::LoadError;
use merv_plugin_api::{API_VERSION, MANIFEST_SECTION, kind};
use object::{Object, ObjectSection, read::ReadCache};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::{fs::File, path::Path, sync::Arc};

/// The largest manifest, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The symbol of plugins of version 1, which made their manifest in a function.
const MANIFEST_OF_VERSION_1: &[u8] = b"merv_plugin_manifest";

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginManifest {
    /// The version of the plugin API that the plugin was built for.
    pub api_version: String,
    /// The name of the plugin in registries.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// The licence of the plugin's code.
    #[serde(default)]
    pub license: String,
    /// The library that the plugin computes with: `candle`, `libtorch`, …
    #[serde(default)]
    pub backend: String,
    /// The kinds of device that the plugin serves: `cpu`, `cuda`, …
    #[serde(default)]
    pub devices: Vec<String>,
    /// What the plugin provides.
    #[serde(default)]
    pub provides: Vec<ProvidedModel>,
}

/// One model or service that a plugin provides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedModel {
    /// The id that registries use.
    pub id: String,
    /// The kind ([`kind`]), possibly one that this version does not know.
    pub kind: String,
    /// The licence of the weights that a user downloads for it.
    #[serde(default)]
    pub license: String,
    /// Whether the model has no weights, so that a registry may omit them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_weights: bool,
    /// What the model can do beside inference on `f32` in main memory
    /// ([`feature`](merv_plugin_api::feature)).
    #[serde(default)]
    pub features: Vec<String>,
}

impl ProvidedModel {
    /// Returns whether the model has a feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }
}

impl PluginManifest {
    /// Reads the manifest of the library at `path`, without opening the library.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not a library, has no manifest that can be read, or was built for another major
    /// version of the plugin API.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let text = section(path)?;
        check_version(path, &text)?;
        serde_json::from_slice(&text).map_err(|error| bad(path, error.to_string()))
    }

    /// Returns the kinds that the plugin provides, without repetitions, in the order in which this version knows them.
    pub fn kinds(&self) -> Vec<&str> {
        let known = [
            kind::ENCODER,
            kind::LLM,
            kind::MIXER,
            kind::FUSION,
            kind::COLLECTIVE,
        ];
        let mut kinds: Vec<&str> = self
            .provides
            .iter()
            .map(|item| item.kind.as_str())
            .collect();
        kinds.sort_by_key(|kind| {
            let place = known.iter().position(|known| known == kind);
            (place.unwrap_or(known.len()), *kind)
        });
        kinds.dedup();
        kinds
    }

    /// Returns the model with this kind and id.
    pub fn provided(&self, kind: &str, id: &str) -> Option<&ProvidedModel> {
        let mut provided = self.provides.iter();
        provided.find(|item| item.kind == kind && item.id == id)
    }
}

fn bad(path: &Path, reason: String) -> LoadError {
    LoadError::BadManifest {
        path: path.to_owned(),
        reason,
    }
}

/// Returns the bytes of the section.
fn section(path: &Path) -> Result<Vec<u8>, LoadError> {
    let not_a_library = |error: object::read::Error| LoadError::NotALibrary {
        path: path.to_owned(),
        reason: format!("it is not a shared library ({error})"),
    };
    let file = File::open(path).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).map_err(not_a_library)?;
    let Some(section) = object.section_by_name(MANIFEST_SECTION) else {
        let exports = object.exports().map_err(not_a_library)?;
        let is_older = exports
            .iter()
            .any(|export| export.name() == MANIFEST_OF_VERSION_1);
        return Err(match is_older {
            true => LoadError::ApiVersion {
                path: path.to_owned(),
                found: "1".to_owned(),
                advice: "rebuild the plugin against merv-plugin-api 2, or use a newer version of it",
            },
            false => LoadError::NoManifest {
                path: path.to_owned(),
            },
        });
    };
    if section.size() > MAX_BYTES {
        let reason = format!(
            "it has {} bytes, expected at most {MAX_BYTES}",
            section.size()
        );
        return Err(bad(path, reason));
    }
    let data = section.data().map_err(not_a_library)?;
    // Linkers and sanitizers fill a section up with zeros.
    let end = data.iter().rposition(|&byte| byte != 0);
    Ok(data[..end.map_or(0, |last| last + 1)].to_vec())
}

/// Checks the API version, which is read alone: nothing else of the manifest of another version has to make sense.
fn check_version(path: &Path, text: &[u8]) -> Result<(), LoadError> {
    #[derive(Deserialize)]
    struct VersionOnly {
        api_version: String,
    }
    let VersionOnly { api_version: found } =
        serde_json::from_slice(text).map_err(|error| bad(path, error.to_string()))?;
    let refuse = |advice| {
        Err(LoadError::ApiVersion {
            path: path.to_owned(),
            found: found.clone(),
            advice,
        })
    };
    let (Ok(plugin), Ok(host)) = (Version::parse(&found), Version::parse(API_VERSION)) else {
        return refuse("report it to the plugin's author: that is not a version");
    };
    match plugin.major.cmp(&host.major) {
        std::cmp::Ordering::Less => refuse("rebuild the plugin, or use a newer version of it"),
        std::cmp::Ordering::Greater => {
            refuse("use a newer merv-host, or an older version of the plugin")
        }
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Returns whether the minor version of a plugin's API is not newer than the host's.
pub(super) fn is_not_newer(manifest: &PluginManifest) -> bool {
    let parsed = [&*manifest.api_version, API_VERSION].map(Version::parse);
    match parsed {
        [Ok(plugin), Ok(host)] => plugin.minor <= host.minor,
        _ => false,
    }
}
