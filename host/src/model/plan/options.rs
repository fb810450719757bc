//! How models are loaded.

use crate::{
    hub,
    registry::{DeviceChoice, DtypeChoice, Registry, RegistryError},
    threads,
};
use std::path::{Path, PathBuf};

/// How models are loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Folders that are searched for plugins before all others.
    pub plugin_folders: Vec<PathBuf>,
    /// The number of compute threads. The default is all threads of the machine.
    pub threads: Option<usize>,
    /// The device of all models. It overrides the registry.
    pub device: Option<DeviceChoice>,
    /// The library that the plugins compute with: `candle`, `libtorch`, … It overrides the names of plugins in the
    /// registry.
    pub backend: Option<String>,
    /// The number format of matrix multiplications in the encoders and the language model. It overrides the
    /// registry.
    pub precision: Option<DtypeChoice>,
    /// What messages call the option that gave the precision; `--precision` when absent.
    pub precision_option: Option<&'static str>,
    /// The settings of the hub and its cache.
    pub hub: hub::Settings,
}

impl LoadOptions {
    /// Returns the number of compute threads: no more than are useful on this machine.
    pub fn threads(&self) -> usize {
        self.threads
            .map_or_else(threads::available, threads::useful)
    }

    /// Reads a registry, and overrides it with these options.
    ///
    /// # Errors
    ///
    /// The same as [`Registry::load`].
    pub fn registry(&self, registry: impl AsRef<Path>) -> Result<Registry, RegistryError> {
        Registry::load(registry).map(|registry| self.overridden(registry))
    }

    /// Overrides a registry with these options.
    pub(super) fn overridden(&self, mut registry: Registry) -> Registry {
        let encoders = registry.encoders.iter_mut();
        let encoders = encoders.map(|entry| (&mut entry.device, &mut entry.dtype));
        let llm = (&mut registry.llm.device, &mut registry.llm.dtype);
        for (device, dtype) in encoders.chain([llm]) {
            *device = self.device.unwrap_or(*device);
            *dtype = self.precision.unwrap_or(*dtype);
        }
        registry
    }
}
