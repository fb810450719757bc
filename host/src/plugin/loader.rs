//! Loading of shared libraries. No other module opens them.

use super::{CallError, Encoder, LanguageModel, elf, sink::Sink};
use abi_stable::{
    StableAbi, abi_stability::abi_checking::check_layout_compatibility, library::AbiHeaderRef,
};
use merv_plugin_api::{
    API_VERSION, EncoderInfo, EncoderRequest, ErrorKind, HostServices, LanguageModelInfo,
    LanguageModelRequest, MANIFEST_SYMBOL, Manifest, PluginError, PluginModuleRef, ROOT_SYMBOL,
};
use semver::Version;
use std::{
    collections::HashMap,
    ffi::{CStr, c_char},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;

/// The maximum length of abi_stable's description of two different layouts in a message.
const SHOWN_LAYOUT_CHARS: usize = 600;

/// A library that cannot be used as a plugin.
#[derive(Debug, Clone, Error)]
pub enum LoadError {
    /// The file does not exist or cannot be read.
    #[error("the plugin {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Arc<std::io::Error>,
    },
    /// The file is not a library that this machine can load.
    #[error("{} cannot be loaded: {reason}\n  do: build or download the plugin again, for this machine", .path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The library does not export a manifest.
    #[error(
        "{} is a library, but not a merv plugin: it does not export `{MANIFEST_SYMBOL}`\n  \
         do: use a library that was built with `merv_plugin_api::export_plugin!`", .path.display()
    )]
    NoManifest {
        /// The file.
        path: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("{} has a manifest that cannot be read: {reason}\n  do: report it to the plugin's author", .path.display())]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin was built against an API version that this host does not support.
    #[error(
        "{} was built against version {found} of the plugin API, but this host supports {API_VERSION}\n  \
         do: {advice}", .path.display()
    )]
    ApiVersion {
        /// The file.
        path: PathBuf,
        /// The plugin's API version.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The types of the plugin have a different layout.
    #[error(
        "{} states version {API_VERSION} of the plugin API, but its types have a different \
         layout: {detail}\n  do: rebuild it against merv-plugin-api {API_VERSION}", .path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// The difference.
        detail: String,
    },
    /// The initialisation of the plugin failed.
    #[error("{} was loaded, but did not start", .path.display())]
    Init {
        /// The file.
        path: PathBuf,
        /// The plugin's error.
        source: CallError,
    },
}

/// A loaded plugin. Libraries stay loaded until the process ends.
pub struct Library {
    path: PathBuf,
    manifest: Manifest,
    module: PluginModuleRef,
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

/// The results by path. Without them, opening a library twice would initialise it twice.
type Loaded = HashMap<PathBuf, Slot>;

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
        let slot = {
            let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                loaded
                    .get_or_insert_default()
                    .entry(path.clone())
                    .or_default(),
            )
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
        let (manifest, library) = read_manifest(path)?;
        check_version(path, &manifest.api_version)?;
        let module = root_module(path, library)?;
        let services = HostServices::new(
            u32::try_from(threads).unwrap_or(u32::MAX),
            Sink(manifest.name.clone()),
        );
        module.init()(services)
            .into_result()
            .map_err(|error| LoadError::Init {
                path: path.to_owned(),
                source: CallError::new(&manifest.name, "start", error),
            })?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            module,
        })
    }

    /// Reads the manifest of the library at `path` without using any other part of it.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not a library or does not have a valid manifest.
    pub fn manifest_of(path: &Path) -> Result<Manifest, LoadError> {
        Ok(read_manifest(path)?.0)
    }

    /// Returns the path of the library.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the plugin's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the description of an encoder without loading its weights.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn describe_encoder(&self, request: &EncoderRequest) -> Result<EncoderInfo, CallError> {
        self.call("describe", &request.model.id, || {
            let info = self.module.describe_encoder()(request).into_result()?;
            plausible_encoder(&info, request).map(|()| info)
        })
    }

    /// Loads an encoder.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn load_encoder(&self, request: &EncoderRequest) -> Result<Encoder, CallError> {
        let object = self.call("load", &request.model.id, || {
            let object = self.module.load_encoder()(request).into_result()?;
            plausible_encoder(&object.info(), request).map(|()| object)
        })?;
        Ok(Encoder::new(&self.manifest.name, &request.model.id, object))
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
            let info = self.module.describe_llm()(request).into_result()?;
            plausible_llm(&info).map(|()| info)
        })
    }

    /// Loads a language model.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn load_llm(&self, request: &LanguageModelRequest) -> Result<LanguageModel, CallError> {
        let object = self.call("load", &request.model.id, || {
            let object = self.module.load_llm()(request).into_result()?;
            plausible_llm(&object.info()).map(|()| object)
        })?;
        Ok(LanguageModel::new(
            &self.manifest.name,
            &request.model.id,
            object,
        ))
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

/// The maximum of each size in a plugin's description. The host multiplies the sizes and allocates memory
/// for them.
const MAX_SIZE: u32 = 1 << 24;

/// Refuses the description of an encoder that is impossible or does not match the request.
fn plausible_encoder(info: &EncoderInfo, request: &EncoderRequest) -> Result<(), PluginError> {
    let sizes = [info.width, info.image_size, info.temporal, info.spatial];
    if info.num_frames == request.num_frames
        && sizes.iter().all(|size| (1..=MAX_SIZE).contains(size))
        && info
            .temporal
            .checked_mul(info.spatial)
            .is_some_and(|tokens| tokens <= MAX_SIZE)
    {
        return Ok(());
    }
    Err(PluginError::new(
        ErrorKind::Internal,
        format!(
            "it describes an impossible encoder for {} frames: width {}, {} frames, images of {} pixels, \
             {} · {} features",
            request.num_frames,
            info.width,
            info.num_frames,
            info.image_size,
            info.temporal,
            info.spatial
        ),
    ))
}

/// Refuses the description of a language model that is impossible.
fn plausible_llm(info: &LanguageModelInfo) -> Result<(), PluginError> {
    let sizes = [info.width, info.vocab_size, info.context_length];
    if sizes.iter().all(|size| (1..=MAX_SIZE).contains(size)) {
        return Ok(());
    }
    let [width, vocabulary, context] = sizes;
    let message = format!(
        "it describes an impossible language model: width {width}, {vocabulary} tokens, a context of {context}"
    );
    Err(PluginError::new(ErrorKind::Internal, message))
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

fn read_manifest(path: &Path) -> Result<(Manifest, &'static libloading::Library), LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source: Arc::new(source),
    };
    let bad = |reason: String| LoadError::BadManifest {
        path: path.to_owned(),
        reason,
    };
    if let Some(reason) = elf::damage(path).map_err(unreadable)? {
        return Err(LoadError::NotALibrary {
            path: path.to_owned(),
            reason,
        });
    }
    let library = open_library(path).map_err(|error| LoadError::NotALibrary {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    // A library is never unloaded, even if it is not a plugin: its initialisers may have started threads, and
    // the objects and functions of a plugin live as long as the process.
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    type ManifestFn = unsafe extern "C" fn() -> *const c_char;
    // SAFETY: the symbol's name is specific to this project, and its type is part of the contract.
    let symbol =
        unsafe { library.get::<ManifestFn>(MANIFEST_SYMBOL.as_bytes()) }.map_err(|_| {
            LoadError::NoManifest {
                path: path.to_owned(),
            }
        })?;
    // SAFETY: by the contract, it has no arguments and returns null or a string that is never freed.
    let text = unsafe { symbol() };
    if text.is_null() {
        return Err(bad("the plugin failed to create it".to_owned()));
    }
    // SAFETY: it is not null, and by the contract NUL-terminated and never freed.
    let text = unsafe { CStr::from_ptr(text) };
    let manifest = serde_json::from_slice(text.to_bytes()).map_err(|e| bad(e.to_string()))?;
    Ok((manifest, library))
}

/// Checks that the major version is the same and the minor version is not newer.
fn check_version(path: &Path, found: &str) -> Result<(), LoadError> {
    let refuse = |advice| {
        Err(LoadError::ApiVersion {
            path: path.to_owned(),
            found: found.to_owned(),
            advice,
        })
    };
    let (Ok(plugin), Ok(host)) = (Version::parse(found), Version::parse(API_VERSION)) else {
        return refuse("report it to the plugin's author: that is not a version");
    };
    if plugin.major < host.major {
        refuse("use a newer version of the plugin")
    } else if (plugin.major, plugin.minor) > (host.major, host.minor) {
        refuse("use a newer merv-host, or an older version of the plugin")
    } else {
        Ok(())
    }
}

/// Returns the root module after abi_stable has compared all types of the interface.
///
/// `RootModule::load_from*` does the same, but caches one module per root-module type: for every later
/// plugin, it would return the first one.
fn root_module(
    path: &Path,
    library: &'static libloading::Library,
) -> Result<PluginModuleRef, LoadError> {
    let layout = |detail: String| LoadError::Layout {
        path: path.to_owned(),
        detail: match detail.char_indices().nth(SHOWN_LAYOUT_CHARS) {
            Some((end, _)) => format!("{}…", &detail[..end]),
            None => detail,
        },
    };
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
    // The plugin is never newer than the host, so its types must be a part of the host's. `check_layout` checks
    // the reverse, and would refuse every plugin with an older minor version.
    check_layout_compatibility(plugin, PluginModuleRef::LAYOUT)
        .map_err(|error| layout(error.to_string()))?;
    // SAFETY: the layouts were compared above.
    unsafe { header.unchecked_layout::<PluginModuleRef>() }
        .map_err(|error| layout(error.to_string()))
}
