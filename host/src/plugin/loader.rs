//! Loading of shared libraries. No other module opens them.

use super::{
    CallError, Devices, Encoder, Group, LanguageModel, LoadError, PluginManifest, PluginMixer,
    description, device::Place, elf, manifest::is_not_newer, sink::Sink,
};
use crate::{address_space, disk::file_id::FileId};
use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::{
        AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals,
        check_layout_compatibility_with_globals,
    },
    library::AbiHeaderRef,
};
use merv_plugin_api::{
    CollectiveRequest, Device, EncoderInfo, EncoderRequest, HostServices, LanguageModelInfo,
    LanguageModelRequest, MixerInfo, MixerRequest, MixerWeights, PluginError, feature, kind,
    module::{Module, PluginModuleRef, ROOT_SYMBOL},
};
use std::{
    collections::HashMap,
    fmt,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The maximum length of one difference between two layouts in a message, and of the number of differences.
const SHOWN_CHARS: usize = 300;
const SHOWN_DIFFERENCES: usize = 3;

/// A loaded plugin. Libraries stay loaded until the process ends.
pub struct Library {
    path: PathBuf,
    manifest: PluginManifest,
    module: Module,
    devices: Arc<Devices>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Library({} at {})",
            self.manifest.name,
            self.path.display()
        )
    }
}

/// The result of initialising a library, if it was initialised.
type Slot = Arc<Mutex<Option<Result<Arc<Library>, LoadError>>>>;

/// The results by file. Without them, opening a library twice would initialise it twice. The dynamic linker too takes two
/// names of one file for one library.
type Loaded = HashMap<FileId, Slot>;

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

impl Library {
    /// Loads and initialises the plugin at `path`. If it is already loaded, returns it with the number of
    /// threads of the first call.
    ///
    /// # Errors
    ///
    /// Returns a [`LoadError`] that describes what is wrong with the library.
    pub fn open(path: &Path, threads: usize) -> Result<Arc<Self>, LoadError> {
        let path = path
            .canonicalize()
            .map_err(|source| LoadError::Unreadable {
                path: path.to_owned(),
                source: Arc::new(source),
            })?;
        let unreadable = |source| LoadError::Unreadable {
            path: path.clone(),
            source: Arc::new(source),
        };
        let file = FileId::of(&path).map_err(unreadable)?;
        let slot = {
            let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(loaded.get_or_insert_default().entry(file).or_default())
        };
        // While the code of the library runs, only its own slot is locked.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*slot {
            return known.clone();
        }
        let result = Self::load(&path, threads).map(Arc::new);
        // Other errors can be corrected by replacing the file. `init` has run here, and must run only once.
        if matches!(result, Ok(_) | Err(LoadError::Init { .. })) {
            *slot = Some(result.clone());
        }
        result
    }

    fn load(path: &Path, threads: usize) -> Result<Self, LoadError> {
        check_file(path)?;
        let manifest = PluginManifest::read(path)?;
        let module = Module::new(root_module(path, &manifest)?);
        let mut services = HostServices::new(u32::try_from(threads).unwrap_or(u32::MAX));
        services.memory_limit = address_space::limit();
        let started = module.init(&services, Sink(manifest.name.clone()));
        started.map_err(|error| LoadError::Init {
            path: path.to_owned(),
            source: CallError::new(&manifest.name, "start", error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            devices: Arc::new(Devices::new(&manifest.name, module)),
            manifest,
            module,
        })
    }

    /// Checks whether the library at `path` could be opened as a plugin, without opening it, and returns its manifest.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not a complete library or does not have a valid manifest.
    pub fn inspect(path: &Path) -> Result<PluginManifest, LoadError> {
        check_file(path)?;
        PluginManifest::read(path)
    }

    /// Returns the path of the library.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the plugin's manifest.
    pub fn manifest(&self) -> &PluginManifest {
        &self.manifest
    }

    /// Returns the plugin's devices.
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// Returns the description of an encoder without loading its weights.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn describe_encoder(&self, request: &EncoderRequest) -> Result<EncoderInfo, CallError> {
        self.call("describe", &request.model.id, || {
            let info = self.module.describe_encoder(request)?;
            let provided = self.manifest.provided(kind::ENCODER, &request.model.id);
            let takes_bytes = provided.is_some_and(|model| model.has(feature::U8_CLIPS));
            description::plausible_encoder(&info, request, takes_bytes).map(|()| info)
        })
    }

    /// Loads an encoder that was described as `described`.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the loaded encoder describes itself differently.
    pub fn load_encoder(
        &self,
        request: &EncoderRequest,
        described: &EncoderInfo,
    ) -> Result<Encoder, CallError> {
        let id = &request.model.id;
        let (info, place, object) = self.call("load", id, || {
            let place = self.place(kind::ENCODER, id, described.device)?;
            let object = self.module.load_encoder(request)?;
            let info = object.info()?;
            // It is as plausible as the description that it equals.
            description::same_encoder(described, &info).map(|()| (info, place, object))
        })?;
        Ok(Encoder::new(&self.manifest.name, id, info, place, object))
    }

    /// Returns the description of a language model without loading its weights.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn describe_llm(
        &self,
        request: &LanguageModelRequest,
    ) -> Result<LanguageModelInfo, CallError> {
        self.call("describe", &request.model.id, || {
            let info = self.module.describe_llm(request)?;
            description::plausible_llm(&info).map(|()| info)
        })
    }

    /// Loads a language model that was described as `described`.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the loaded model describes itself differently.
    pub fn load_llm(
        &self,
        request: &LanguageModelRequest,
        described: &LanguageModelInfo,
    ) -> Result<LanguageModel, CallError> {
        let id = &request.model.id;
        let (info, place, object) = self.call("load", id, || {
            let place = self.place(kind::LLM, id, described.device)?;
            let object = self.module.load_llm(request)?;
            let info = object.info()?;
            description::plausible_llm(&info)?;
            description::knows_its_tokens(&info)?;
            description::same_llm(described, &info).map(|()| (info, place, object))
        })?;
        let plugin = &self.manifest.name;
        Ok(LanguageModel::new(plugin, id, info, place, object))
    }

    /// Returns where a model takes and returns tensors.
    fn place(&self, kind: &str, id: &str, device: Device) -> Result<Place, PluginError> {
        let provided = self.manifest.provided(kind, id);
        let on_device = provided.is_some_and(|model| model.has(feature::DEVICE_TENSORS));
        Place::new(&self.devices, device, on_device)
    }

    /// Returns the description of a mixer or a fusion. `kind` is [`kind::MIXER`](merv_plugin_api::kind::MIXER) or
    /// [`kind::FUSION`](merv_plugin_api::kind::FUSION).
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn describe_mixer(
        &self,
        kind: &str,
        request: &MixerRequest,
    ) -> Result<MixerInfo, CallError> {
        self.call("describe", &request.model.id, || {
            let info = self.module.describe_mixer(kind, request)?;
            description::plausible_mixer(&info).map(|()| info)
        })
    }

    /// Loads a mixer or a fusion that was described as `described`, with the values of its parameters.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the loaded mixer describes itself differently.
    pub fn load_mixer(
        &self,
        request: &MixerRequest,
        described: &MixerInfo,
        weights: &MixerWeights<'_>,
    ) -> Result<PluginMixer, CallError> {
        let (info, object) = self.call("load", &request.model.id, || {
            let object = self.module.load_mixer(request, weights)?;
            let info = object.info()?;
            description::same_mixer(described, &info).map(|()| (info, object))
        })?;
        Ok(PluginMixer::new(&self.manifest.name, request, info, object))
    }

    /// Joins a group of processes. Waits for the other members, at most as long as the request states.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the group is not the requested one.
    pub fn join_collective(&self, request: &CollectiveRequest) -> Result<Group, CallError> {
        self.call("join", &request.id, || {
            let object = self.module.join_collective(request)?;
            Group::joined(&self.manifest.name, request, object)
        })
    }

    fn call<T>(
        &self,
        verb: &str,
        id: &str,
        body: impl FnOnce() -> Result<T, PluginError>,
    ) -> Result<T, CallError> {
        body()
            .map_err(|error| CallError::new(&self.manifest.name, &format!("{verb} `{id}`"), error))
    }
}

/// Opens a library and resolves all of its symbols, so that a missing symbol is an error here. With lazy
/// binding, it would end the process at the first call.
#[cfg(unix)]
fn open_library(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: opening runs the library's initialisers. The user trusts a library on the plugin path, and the
    // initialisers of Rust's cdylibs do not affect the host.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

/// Opens a library. This system always resolves all of its symbols.
#[cfg(not(unix))]
fn open_library(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the same as on Unix.
    unsafe { libloading::Library::new(path) }
}

/// Refuses a file that is not a complete library for this machine. Opening one could end the process.
fn check_file(path: &Path) -> Result<(), LoadError> {
    let damage = elf::damage(path).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    match damage {
        None => Ok(()),
        Some(reason) => Err(LoadError::NotALibrary {
            path: path.to_owned(),
            reason,
        }),
    }
}

/// Opens the library and returns its root module, after abi_stable has compared all types of the interface.
///
/// `RootModule::load_from*` does the same, but caches one module per root-module type: for every later
/// plugin, it would return the first one.
fn root_module(path: &Path, manifest: &PluginManifest) -> Result<PluginModuleRef, LoadError> {
    let layout = |detail: String| LoadError::Layout {
        path: path.to_owned(),
        found: manifest.api_version.clone(),
        detail,
    };
    let library = open_library(path).map_err(|error| LoadError::NotALibrary {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    // A library is never unloaded, even if it is not a plugin: its initialisers may have started threads, and
    // the objects and functions of a plugin live as long as the process.
    let library = ManuallyDrop::new(library);
    // SAFETY: the symbol's name is specific to this project. By the contract it is a `LibHeader`, and `upgrade`
    // checks its start before the rest is read.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|_| layout(format!("it does not export `{ROOT_SYMBOL}`")))?;
    let header = header
        .upgrade()
        .map_err(|error| layout(error.to_string()))?;
    let plugin = header
        .layout()
        .ok_or_else(|| layout("it does not contain a layout".to_owned()))?;
    // What the older of the two has must be a part of what the newer has. Each plugin is compared with the host alone:
    // abi_stable's own globals would compare plugins of different versions with each other.
    let host = PluginModuleRef::LAYOUT;
    let (older, newer) = match is_not_newer(manifest) {
        true => (plugin, host),
        false => (host, plugin),
    };
    check_layout_compatibility_with_globals(older, newer, &CheckingGlobals::new())
        .map_err(|errors| layout(differences(&errors)))?;
    // SAFETY: the layouts were compared above.
    unsafe { header.unchecked_layout::<PluginModuleRef>() }
        .map_err(|error| layout(error.to_string()))
}

/// Returns the first differences between two layouts, each with the place where it is. abi_stable's own text has all
/// layouts before them.
fn differences(errors: &AbiInstabilityErrors) -> String {
    let one = |error: &AbiInstabilityError| {
        let text = error.to_string();
        let what = text.split_once("\nError:").map_or(&*text, |(_, what)| what);
        let words: Vec<_> = what.split_whitespace().collect();
        let what: String = words.join(" ").chars().take(SHOWN_CHARS).collect();
        match error.stack_trace.last() {
            Some(place) => format!("{} in `{}`", what, place.found),
            None => what,
        }
    };
    let mut shown: Vec<_> = errors
        .errors
        .iter()
        .take(SHOWN_DIFFERENCES)
        .map(one)
        .collect();
    let more = errors.errors.len().saturating_sub(SHOWN_DIFFERENCES);
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join("; ")
}
