//! Choosing a plugin by what it can do. Only manifests are read: no library is opened.

use super::{Library, LoadError, PluginManifest, search::name_of};
use merv_architectures::nearest::nearest;
use merv_plugin_api::Device;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What a plugin must be able to do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// The kind of model ([`kind`](merv_plugin_api::kind)).
    pub kind: &'w str,
    /// The model's id.
    pub id: &'w str,
    /// The device. `None` means any, and the CPU before all others.
    pub device: Option<Device>,
    /// The name of the library that the plugin computes with. `None` means any.
    pub backend: Option<&'w str>,
}

/// A library on the plugin path.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// Its manifest, or why it cannot be read.
    pub manifest: Result<PluginManifest, LoadError>,
}

/// A plugin that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NotTaken {
    /// The plugin's name.
    pub plugin: String,
    /// The library.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

/// The plugin that was taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Choice {
    /// The library.
    pub path: PathBuf,
    /// Why it was taken.
    pub reason: String,
    /// The other plugins that were considered: those that provide the model, and those whose manifest cannot be read.
    pub not_taken: Vec<NotTaken>,
}

/// No plugin can do what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoChoice {
    /// The plugins that were considered.
    pub not_taken: Vec<NotTaken>,
    /// An id of the same kind that is similar, if no plugin provides the wanted one.
    pub similar: Option<String>,
}

impl Choice {
    /// A plugin without an alternative.
    pub(crate) fn given(path: &Path, reason: &str) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_owned(),
            not_taken: Vec::new(),
        }
    }
}

impl Listed {
    /// Reads the manifest of a library, without opening it.
    pub fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            manifest: Library::inspect(path),
        }
    }

    fn not_taken(&self, reason: String) -> NotTaken {
        let name = self.manifest.as_ref().map(|manifest| manifest.name.clone());
        NotTaken {
            plugin: name.unwrap_or_else(|_| name_of(&self.path)),
            path: self.path.clone(),
            reason,
        }
    }
}

impl PluginManifest {
    /// Returns whether the plugin serves a kind of device. A plugin that lists no kinds may serve any.
    pub fn serves(&self, kind: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|known| known == kind)
    }
}

impl Wanted<'_> {
    fn device_kind(&self) -> Option<String> {
        self.device.map(|device| device.kind.to_string())
    }

    /// Returns why a plugin that provides the model is not suitable.
    fn objection(&self, manifest: &PluginManifest) -> Option<String> {
        if let Some(backend) = self.backend
            && manifest.backend != backend
        {
            return Some(format!(
                "its backend is `{}`, not `{backend}`",
                manifest.backend
            ));
        }
        let kind = self.device_kind()?;
        (!manifest.serves(&kind))
            .then(|| format!("it serves {}, not {kind}", manifest.devices.join(" and ")))
    }

    /// Returns what the plugin must do, such as `provides it and serves cuda`, after a noun in the singular or plural.
    fn demands(&self, device: Option<&str>, ending: &str) -> String {
        let mut demands = vec![format!("provide{ending} it")];
        demands.extend(device.map(|kind| format!("serve{ending} {kind}")));
        demands.extend(
            self.backend
                .map(|name| format!("compute{ending} with `{name}`")),
        );
        let last = demands.pop().unwrap_or_default();
        match demands.is_empty() {
            true => last,
            false => format!("{} and {last}", demands.join(", ")),
        }
    }

    /// Chooses among the plugins of the plugin path, which are listed in its order. Of several that are suitable, the
    /// first is taken; without a requested device, the first that serves the CPU, if one does.
    ///
    /// # Errors
    ///
    /// Returns all plugins that were considered if none is suitable.
    pub fn choose(&self, listed: &[Listed]) -> Result<Choice, NoChoice> {
        let mut not_taken = Vec::new();
        let mut suitable = Vec::new();
        for library in listed {
            match &library.manifest {
                Err(error) => {
                    let text = crate::messages::in_one_line(error);
                    not_taken
                        .push(library.not_taken(format!("its manifest cannot be read: {text}")));
                }
                Ok(manifest) if manifest.provided(self.kind, self.id).is_none() => {}
                Ok(manifest) => match self.objection(manifest) {
                    Some(reason) => not_taken.push(library.not_taken(reason)),
                    None => suitable.push((library, manifest)),
                },
            }
        }
        let on_cpu = |(_, manifest): &(&Listed, &PluginManifest)| manifest.serves("cpu");
        let kind = match self.device_kind() {
            None => suitable.iter().any(on_cpu).then(|| "cpu".to_owned()),
            kind => kind,
        };
        if self.device.is_none() && kind.is_some() {
            let (first, others) = suitable.into_iter().partition(on_cpu);
            suitable = first;
            let others: Vec<(&Listed, &PluginManifest)> = others;
            not_taken.extend(others.iter().map(|(library, manifest)| {
                let devices = manifest.devices.join(" and ");
                library.not_taken(format!("it serves {devices}, and the CPU comes first"))
            }));
        }
        let Some(((taken, _), later)) = suitable.split_first() else {
            return Err(self.no_choice(listed, not_taken));
        };
        let reason = match suitable.len() {
            1 => format!(
                "the only plugin that {}",
                self.demands(kind.as_deref(), "s")
            ),
            count => format!(
                "the first of {count} plugins on the plugin path that {}",
                self.demands(kind.as_deref(), "")
            ),
        };
        not_taken.extend(later.iter().map(|(library, _)| {
            library.not_taken(format!("it comes after {}", taken.path.display()))
        }));
        Ok(Choice {
            path: taken.path.clone(),
            reason,
            not_taken,
        })
    }

    fn no_choice(&self, listed: &[Listed], not_taken: Vec<NotTaken>) -> NoChoice {
        let manifests = listed
            .iter()
            .filter_map(|library| library.manifest.as_ref().ok());
        let provided: Vec<_> = manifests.flat_map(|manifest| &manifest.provides).collect();
        let of_kind = provided.iter().filter(|model| model.kind == self.kind);
        let ids: Vec<&str> = of_kind.map(|model| model.id.as_str()).collect();
        let similar = match ids.contains(&self.id) {
            true => None,
            false => nearest(self.id, &ids).map(str::to_owned),
        };
        NoChoice { not_taken, similar }
    }
}

impl fmt::Display for NoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.not_taken.is_empty() {
            f.write_str("no plugin on the plugin path provides it")?;
        }
        for (index, candidate) in self.not_taken.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            let NotTaken {
                plugin,
                path,
                reason,
            } = candidate;
            write!(f, "{separator}`{plugin}` ({}): {reason}", path.display())?;
        }
        match &self.similar {
            Some(id) => write!(f, "; a similar id is `{id}`"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::ProvidedModel;
    use merv_plugin_api::{DeviceKind, kind};

    fn listed(name: &str, backend: &str, devices: &[&str], ids: &[&str]) -> Listed {
        let provided = |id: &&str| ProvidedModel {
            id: (*id).to_owned(),
            kind: kind::ENCODER.to_owned(),
            license: String::new(),
            without_weights: false,
            features: Vec::new(),
        };
        Listed {
            path: format!("/p/{name}.so").into(),
            manifest: Ok(PluginManifest {
                api_version: "2.0.0".to_owned(),
                name: name.to_owned(),
                version: "1".to_owned(),
                license: String::new(),
                backend: backend.to_owned(),
                devices: devices.iter().map(|&kind| kind.to_owned()).collect(),
                provides: ids.iter().map(provided).collect(),
            }),
        }
    }

    fn path() -> Vec<Listed> {
        vec![
            listed("gpu", "torch", &["cuda"], &["vit"]),
            listed("other", "candle", &["cpu"], &["swin"]),
            listed("small", "candle", &["cpu"], &["vit"]),
            listed("both", "torch", &["cpu", "cuda"], &["vit"]),
        ]
    }

    fn wanted<'w>(id: &'w str, device: Option<Device>, backend: Option<&'w str>) -> Wanted<'w> {
        Wanted {
            kind: kind::ENCODER,
            id,
            device,
            backend,
        }
    }

    fn taken(choice: &Choice) -> &str {
        choice.path.file_stem().unwrap().to_str().unwrap()
    }

    fn reasons(not_taken: &[NotTaken]) -> Vec<(&str, &str)> {
        let pairs = not_taken.iter();
        pairs
            .map(|other| (other.plugin.as_str(), other.reason.as_str()))
            .collect()
    }

    #[test]
    fn the_cpu_comes_first_and_then_the_order_of_the_path() {
        let choice = wanted("vit", None, None).choose(&path()).unwrap();
        assert_eq!(taken(&choice), "small");
        let reason = "the first of 2 plugins on the plugin path that provide it and serve cpu";
        assert_eq!(choice.reason, reason);
        let expected = [
            ("gpu", "it serves cuda, and the CPU comes first"),
            ("both", "it comes after /p/small.so"),
        ];
        assert_eq!(reasons(&choice.not_taken), expected);
        // Without one that serves the CPU, the first of all.
        let choice = wanted("vit", None, None).choose(&path()[..2]).unwrap();
        assert_eq!(
            (taken(&choice), &*choice.reason),
            ("gpu", "the only plugin that provides it")
        );
    }

    #[test]
    fn device_and_backend_decide() {
        let cuda = Some(Device::new(DeviceKind::CUDA, 1));
        let choice = wanted("vit", cuda, None).choose(&path()).unwrap();
        assert_eq!(taken(&choice), "gpu");
        let expected = [
            ("small", "it serves cpu, not cuda"),
            ("both", "it comes after /p/gpu.so"),
        ];
        assert_eq!(reasons(&choice.not_taken), expected);
        let choice = wanted("vit", Some(Device::CPU), Some("torch"))
            .choose(&path())
            .unwrap();
        assert_eq!(taken(&choice), "both");
        assert_eq!(
            choice.reason,
            "the only plugin that provides it, serves cpu and computes with `torch`"
        );
    }

    #[test]
    fn the_error_lists_every_candidate() {
        let metal = Some(Device::new(DeviceKind::METAL, 0));
        let mut path = path();
        path.push(Listed::read(Path::new("/p/libmerv_gone.so")));
        let text = wanted("vit", metal, Some("torch"))
            .choose(&path)
            .unwrap_err()
            .to_string();
        for part in [
            "`gpu` (/p/gpu.so): it serves cuda, not metal",
            "`small` (/p/small.so): its backend is `candle`, not `torch`",
            "`both` (/p/both.so): it serves cpu and cuda, not metal",
            "`gone` (/p/libmerv_gone.so): its manifest cannot be read",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("other"), "{text}");
        let error = wanted("swim", None, None).choose(&path[..4]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no plugin on the plugin path provides it; a similar id is `swin`"
        );
        // The same id of another kind is not the model.
        let llm = Wanted {
            kind: kind::LLM,
            ..wanted("vit", None, None)
        };
        assert!(llm.choose(&path[..4]).unwrap_err().not_taken.is_empty());
    }
}
