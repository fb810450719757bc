//! The only place that opens shared libraries.

use super::{CallError, Encoder, LanguageModel, elf, sink::Sink};
use abi_stable::{
    StableAbi, abi_stability::abi_checking::check_layout_compatibility, library::AbiHeaderRef,
};
use merv_plugin_api::{
    API_VERSION, EncoderInfo, EncoderRequest, HostServices, LanguageModelInfo,
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

/// How much of abi_stable's account of two differing layouts is shown.
const SHOWN_LAYOUT_CHARS: usize = 600;

/// A library that cannot be used as a plugin. Each message names the file.
#[derive(Debug, Error)]
pub enum LoadError {
    /// There is no such file, or it cannot be read.
    #[error("the plugin {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no library that this machine can load.
    #[error("{} cannot be loaded: {reason}\n  do: build or fetch the plugin again, for this machine", .path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The library exports no manifest.
    #[error(
        "{} is a library, but no merv plugin: it does not export `{MANIFEST_SYMBOL}`\n  \
         do: name a file that was built with `merv_plugin_api::export_plugin!`", .path.display()
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
    /// The plugin was built against an API that this host does not speak.
    #[error(
        "{} was built against version {found} of the plugin API; this host speaks {API_VERSION}\n  \
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
    /// The plugin's types are laid out differently.
    #[error(
        "{} claims version {API_VERSION} of the plugin API, but its types are laid out \
         differently: {detail}\n  do: rebuild it against merv-plugin-api {API_VERSION}", .path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// The plugin refused to start.
    #[error(transparent)]
    Init(CallError),
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

/// What the loader knows of a path: opening a library twice would initialise it twice.
type Loaded = HashMap<PathBuf, Arc<Library>>;

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

impl Library {
    /// Loads and initialises the plugin at `path`, or returns it if it is loaded already (then with
    /// the threads it was first given).
    ///
    /// # Errors
    ///
    /// [`LoadError`] says what about the library is wrong.
    pub fn open(path: &Path, threads: usize) -> Result<Arc<Self>, LoadError> {
        let path = path
            .canonicalize()
            .map_err(|source| LoadError::Unreadable {
                path: path.to_owned(),
                source,
            })?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(library) = loaded.get(&path) {
            return Ok(Arc::clone(library));
        }
        let library = Arc::new(Self::load(&path, threads)?);
        loaded.insert(path, Arc::clone(&library));
        Ok(library)
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
            .map_err(|error| LoadError::Init(CallError::new(&manifest.name, "start", error)))?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            module,
        })
    }

    /// The manifest of the library at `path`, read without trusting anything else in it.
    ///
    /// # Errors
    ///
    /// When the file is no library, or has no manifest.
    pub fn manifest_of(path: &Path) -> Result<Manifest, LoadError> {
        Ok(read_manifest(path)?.0)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the plugin says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What an encoder would be, without its weights.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn describe_encoder(&self, request: &EncoderRequest) -> Result<EncoderInfo, CallError> {
        self.call("describe", &request.model.id, || {
            self.module.describe_encoder()(request).into_result()
        })
    }

    /// Loads an encoder.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn load_encoder(&self, request: &EncoderRequest) -> Result<Encoder, CallError> {
        let object = self.call("load", &request.model.id, || {
            self.module.load_encoder()(request).into_result()
        })?;
        Ok(Encoder::new(&self.manifest.name, &request.model.id, object))
    }

    /// What a language model would be, without its weights.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn describe_llm(
        &self,
        request: &LanguageModelRequest,
    ) -> Result<LanguageModelInfo, CallError> {
        self.call("describe", &request.model.id, || {
            self.module.describe_llm()(request).into_result()
        })
    }

    /// Loads a language model.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn load_llm(&self, request: &LanguageModelRequest) -> Result<LanguageModel, CallError> {
        let object = self.call("load", &request.model.id, || {
            self.module.load_llm()(request).into_result()
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

fn read_manifest(path: &Path) -> Result<(Manifest, libloading::Library), LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
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
    // SAFETY: opening runs the library's initialisers, which is what a user who puts a library on
    // the plugin path asks for. Rust's cdylibs have none that touch the host.
    let library =
        unsafe { libloading::Library::new(path) }.map_err(|error| LoadError::NotALibrary {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    type ManifestFn = unsafe extern "C" fn() -> *const c_char;
    // SAFETY: the symbol's name is this project's own, and its type is part of the contract.
    let symbol =
        unsafe { library.get::<ManifestFn>(MANIFEST_SYMBOL.as_bytes()) }.map_err(|_| {
            LoadError::NoManifest {
                path: path.to_owned(),
            }
        })?;
    // SAFETY: the contract: it takes nothing and returns null or a string that is never freed.
    let text = unsafe { symbol() };
    if text.is_null() {
        return Err(bad("the plugin failed to make it".to_owned()));
    }
    // SAFETY: not null, and by the contract NUL-terminated and never freed.
    let text = unsafe { CStr::from_ptr(text) };
    let manifest = serde_json::from_slice(text.to_bytes()).map_err(|e| bad(e.to_string()))?;
    Ok((manifest, library))
}

/// A plugin of the same major version and of no newer minor version is compatible.
fn check_version(path: &Path, found: &str) -> Result<(), LoadError> {
    let refuse = |advice| {
        Err(LoadError::ApiVersion {
            path: path.to_owned(),
            found: found.to_owned(),
            advice,
        })
    };
    let (Ok(plugin), Ok(host)) = (Version::parse(found), Version::parse(API_VERSION)) else {
        return refuse("report it to the plugin's author: that is no version");
    };
    if plugin.major < host.major {
        refuse("fetch a newer version of the plugin")
    } else if (plugin.major, plugin.minor) > (host.major, host.minor) {
        refuse("use a newer merv-host, or an older version of the plugin")
    } else {
        Ok(())
    }
}

/// The root module, after abi_stable has compared every type that crosses.
///
/// `RootModule::load_from*` would do this too, but it remembers one module per root-module type: every
/// later plugin would silently be the first.
fn root_module(path: &Path, library: libloading::Library) -> Result<PluginModuleRef, LoadError> {
    let layout = |detail: String| LoadError::Layout {
        path: path.to_owned(),
        detail: match detail.char_indices().nth(SHOWN_LAYOUT_CHARS) {
            Some((end, _)) => format!("{}…", &detail[..end]),
            None => detail,
        },
    };
    // SAFETY: the symbol's name is this project's own; by the contract it is a `LibHeader`, whose
    // beginning `upgrade` checks before anything behind it is read.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|_| layout(format!("it does not export `{ROOT_SYMBOL}`")))?;
    // Never unloaded: objects and functions of the plugin live as long as the process.
    std::mem::forget(library);
    let header = header
        .upgrade()
        .map_err(|error| layout(error.to_string()))?;
    let plugin = header
        .layout()
        .ok_or_else(|| layout("it states no layout".to_owned()))?;
    // The plugin, never newer than the host, is the interface, and the host the implementation: what
    // the plugin knows must be part of what the host knows. `check_layout` asks the reverse, and would
    // refuse every plugin that is older by a minor version.
    check_layout_compatibility(plugin, PluginModuleRef::LAYOUT)
        .map_err(|error| layout(error.to_string()))?;
    // SAFETY: the layouts were compared just now.
    unsafe { header.unchecked_layout::<PluginModuleRef>() }
        .map_err(|error| layout(error.to_string()))
}
