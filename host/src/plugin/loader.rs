//! The only place that opens shared libraries.

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

/// How much of abi_stable's account of two differing layouts is shown.
const SHOWN_LAYOUT_CHARS: usize = 600;

/// A library that cannot be used as a plugin. Each message names the file.
#[derive(Debug, Clone, Error)]
pub enum LoadError {
    /// There is no such file, or it cannot be read.
    #[error("the plugin {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Arc<std::io::Error>,
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
    #[error("{} was loaded, but does not start", .path.display())]
    Init {
        /// The file.
        path: PathBuf,
        /// The plugin's answer.
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

/// What became of a library that was initialised.
type Slot = Arc<Mutex<Option<Result<Arc<Library>, LoadError>>>>;

/// What the loader knows of each path: opening a library twice would initialise it twice.
type Loaded = HashMap<PathBuf, Slot>;

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
        // Only this library's slot is held while its own code runs.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*slot {
            return known.clone();
        }
        let result = Self::load(&path, threads).map(Arc::new);
        // Another error may be mended by replacing the file; `init` has run, and runs only once.
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
            let info = self.module.describe_encoder()(request).into_result()?;
            plausible_encoder(&info, request).map(|()| info)
        })
    }

    /// Loads an encoder.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn load_encoder(&self, request: &EncoderRequest) -> Result<Encoder, CallError> {
        let object = self.call("load", &request.model.id, || {
            let object = self.module.load_encoder()(request).into_result()?;
            plausible_encoder(&object.info(), request).map(|()| object)
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
            let info = self.module.describe_llm()(request).into_result()?;
            plausible_llm(&info).map(|()| info)
        })
    }

    /// Loads a language model.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
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

/// Sizes that a plugin may claim at most: the host multiplies and allocates by them.
const MAX_CLAIM: u32 = 1 << 24;

/// Refuses an encoder whose claims make no encoder, or not the one asked for.
fn plausible_encoder(info: &EncoderInfo, request: &EncoderRequest) -> Result<(), PluginError> {
    let sizes = [info.width, info.image_size, info.temporal, info.spatial];
    if info.num_frames == request.num_frames
        && sizes.iter().all(|size| (1..=MAX_CLAIM).contains(size))
        && info
            .temporal
            .checked_mul(info.spatial)
            .is_some_and(|tokens| tokens <= MAX_CLAIM)
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

/// Refuses a language model whose claims make none.
fn plausible_llm(info: &LanguageModelInfo) -> Result<(), PluginError> {
    let sizes = [info.width, info.vocab_size, info.context_length];
    if sizes.iter().all(|size| (1..=MAX_CLAIM).contains(size)) {
        return Ok(());
    }
    let [width, vocabulary, context] = sizes;
    let message = format!(
        "it describes an impossible language model: width {width}, {vocabulary} tokens, a context of {context}"
    );
    Err(PluginError::new(ErrorKind::Internal, message))
}

/// Opens a library with all of its symbols resolved: one that is missing is then an error here, where the
/// system's lazy way would end the process at the first call.
#[cfg(unix)]
fn open_library(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: opening runs the library's initialisers, which is what a user who puts a library on the
    // plugin path asks for. Rust's cdylibs have none that touch the host.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

/// Opens a library; this system resolves all of its symbols at once.
#[cfg(not(unix))]
fn open_library(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: as on unix.
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
    // Never unloaded, not even one that turns out to be no plugin: its initialisers may have started
    // threads, and objects and functions of a plugin live as long as the process.
    let library: &'static libloading::Library = Box::leak(Box::new(library));
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
    // SAFETY: the symbol's name is this project's own; by the contract it is a `LibHeader`, whose
    // beginning `upgrade` checks before anything behind it is read.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|_| layout(format!("it does not export `{ROOT_SYMBOL}`")))?;
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
