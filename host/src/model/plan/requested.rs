//! Comparing what a registry requests with what a plugin's manifest and description state.

use super::plugins::noun;
use crate::{
    Error,
    plugin::{Library, PluginManifest},
    registry::{DeviceChoice, DtypeChoice, Problem, RequestContext},
};
use merv_plugin_api::{DType, Device, DeviceKind};
use std::collections::BTreeMap;

/// Returns the device to request: the chosen one, or the CPU if the plugin serves it, or the first that it serves.
pub(super) fn device_of(choice: DeviceChoice, manifest: &PluginManifest) -> Device {
    if let Some(device) = choice.device() {
        return device;
    }
    let first = manifest.devices.first().filter(|_| !manifest.serves("cpu"));
    let kind = first.and_then(|kind| DeviceKind::from_name(kind));
    kind.map_or(Device::CPU, |kind| Device::new(kind, 0))
}

/// Returns the requested dtype, if there is one.
pub(super) fn dtype_of(choice: DtypeChoice) -> Option<DType> {
    match choice {
        DtypeChoice::Auto => None,
        DtypeChoice::F32 => Some(DType::F32),
        DtypeChoice::F16 => Some(DType::F16),
        DtypeChoice::Bf16 => Some(DType::BF16),
    }
}

pub(super) fn wrong_dtype(
    context: &RequestContext<'_>,
    choice: DtypeChoice,
    described: DType,
) -> Option<Problem> {
    let wrong = dtype_of(choice).filter(|&dtype| dtype != described)?;
    Some(context.differs("dtype", &wrong.to_string(), &described.to_string()))
}

pub(super) fn wrong_device(context: &RequestContext<'_>, choice: DeviceChoice) -> Option<Problem> {
    let device = choice.device()?;
    context.device_problem(&device.kind.to_string(), &device.to_string())
}

pub(super) fn other_device(
    context: &RequestContext<'_>,
    requested: Device,
    described: Device,
) -> Option<Problem> {
    (requested != described)
        .then(|| context.differs("device", &requested.to_string(), &described.to_string()))
}

/// Returns the problems with options that the description does not repeat.
pub(super) fn wrong_options<'o>(
    context: &'o RequestContext<'_>,
    requested: &'o BTreeMap<String, String>,
    described: &'o BTreeMap<String, String>,
) -> impl Iterator<Item = Problem> + 'o {
    let other = requested
        .iter()
        .filter(|(key, value)| described.get(*key) != Some(value));
    other.map(|(key, value)| context.option_problem(key, value, described))
}

pub(super) fn check_id(library: &Library, id: &str, kind: &str) -> Result<(), Error> {
    let manifest = library.manifest();
    if manifest.provided(kind, id).is_some() {
        return Ok(());
    }
    let known: Vec<_> = manifest
        .provides
        .iter()
        .filter(|model| model.kind == kind)
        .map(|model| model.id.as_str())
        .collect();
    Err(Error::UnknownModel {
        plugin: library.manifest().name.clone(),
        kind: noun(kind),
        id: id.to_owned(),
        known: if known.is_empty() {
            "none: it has no such models".into()
        } else {
            known.join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_requested_if_the_plugin_serves_it() {
        let serving = |devices: &[&str]| PluginManifest {
            api_version: "2.0.0".to_owned(),
            name: "x".to_owned(),
            version: "1".to_owned(),
            license: String::new(),
            backend: String::new(),
            devices: devices.iter().map(|&kind| kind.to_owned()).collect(),
            provides: Vec::new(),
        };
        let cuda = Device::new(DeviceKind::CUDA, 0);
        for (devices, expected) in [
            (&["cuda", "cpu"] as &[&str], Device::CPU),
            (&["cuda", "metal"], cuda),
            (&[], Device::CPU),
            (&["quantum"], Device::CPU),
        ] {
            let found = device_of(DeviceChoice::Auto, &serving(devices));
            assert_eq!(found, expected, "{devices:?}");
        }
        let second = Device::new(DeviceKind::CUDA, 1);
        let found = device_of(DeviceChoice::On(second), &serving(&["cpu"]));
        assert_eq!(found, second);
    }
}
