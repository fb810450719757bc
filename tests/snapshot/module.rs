use crate::{
    CollectiveObject, CollectiveRequest, DeviceServiceObject, EncoderInfo, EncoderObject,
    EncoderRequest, HostServices, HostSink, LanguageModelInfo, LanguageModelObject,
    LanguageModelRequest, LogLevel, LogRecord, MixerInfo, MixerObject, MixerRequest, MixerWeights,
    Plugin, PluginError, TensorView,
    abi::{
        error::{Wire, WireError, answer, receive},
        host::{Received, WireSink, wrap},
        text,
    },
    guard::panic_message,
    host, log_record,
    manifest::kind,
};
use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings,
    prefix_type::PrefixTypeTrait,
    sabi_types::VersionStrings,
    std_types::{RResult, RSlice, RStr, RString},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{panic, sync::Arc};

/// The symbol of the static of type `LibHeader` that holds the layouts and creates the [`PluginModule`].
///
/// `merv_plugin_2_c` is reserved: a successor of `abi_stable` may export its root there, beside this one.
pub const ROOT_SYMBOL: &str = "merv_plugin_2_root";

/// The parameters of a mixer: their names as a list in text, their values, and the seed of new ones.
#[repr(C)]
#[derive(StableAbi)]
pub struct WireMixerWeights<'a> {
    names: RStr<'a>,
    values: RSlice<'a, TensorView<'a>>,
    seed: u64,
}

/// The functions of a loaded library. Each runs inside [`crate::guard`]. Requests and descriptions are text.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// See [`Plugin::init`].
    pub init: extern "C" fn(RStr<'_>, WireSink) -> RResult<(), WireError>,
    /// Describes what has a kind ([`kind`]), from its request. Every description without weights is this function.
    pub describe: extern "C" fn(RStr<'_>, RStr<'_>) -> RResult<RString, WireError>,
    /// See [`Plugin::load_encoder`].
    pub load_encoder: extern "C" fn(RStr<'_>) -> RResult<EncoderObject, WireError>,
    /// See [`Plugin::load_llm`].
    pub load_llm: extern "C" fn(RStr<'_>) -> RResult<LanguageModelObject, WireError>,
    /// See [`Plugin::load_mixer`].
    pub load_mixer:
        extern "C" fn(RStr<'_>, WireMixerWeights<'_>) -> RResult<MixerObject, WireError>,
    /// See [`Plugin::join_collective`].
    pub load_collective: extern "C" fn(RStr<'_>) -> RResult<CollectiveObject, WireError>,
    /// See [`Plugin::devices`].
    #[sabi(last_prefix_field)]
    pub devices: extern "C" fn() -> RResult<DeviceServiceObject, WireError>,
    #[cfg(next_minor)]
    pub listen: extern "C" fn() -> u32,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "merv_plugin";
    const NAME: &'static str = "merv_plugin";
    // Not used: the host compares the manifest's API version instead, because abi_stable's own rule refuses
    // plugins that are older than the host.
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

impl PluginModuleRef {
    /// Returns the module of `P`. Called by [`crate::export_plugin!`].
    pub fn of<P: Plugin>() -> Self {
        PluginModule {
            init: init::<P>,
            describe: describe::<P>,
            load_encoder: load_encoder::<P>,
            load_llm: load_llm::<P>,
            load_mixer: load_mixer::<P>,
            load_collective: load_collective::<P>,
            devices: devices::<P>,
            #[cfg(next_minor)]
            listen,
        }
        .leak_into_prefix()
    }
}

extern "C" fn init<P: Plugin>(services: RStr<'_>, sink: WireSink) -> Wire<()> {
    let sink = Arc::new(Received(sink));
    answer("init", || {
        let services: HostServices = text::read(services.as_str())?;
        let services = host::keep(services, sink);
        log_panics();
        P::init(services)
    })
}

/// Sends the text of every panic of this library to the log. It has its own copy of the standard library, which would
/// print to standard error. The error that the host receives has the text too, but not the place.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let mut record = LogRecord::new(LogLevel::DEBUG, panic_message(info.payload()));
        if let Some(place) = info.location() {
            record = record.field("panicked_at", place);
        }
        let thread = std::thread::current();
        log_record(record.field("thread", thread.name().unwrap_or("unnamed")));
    }));
}

extern "C" fn describe<P: Plugin>(what: RStr<'_>, request: RStr<'_>) -> Wire<RString> {
    answer("describe", || {
        fn described<R: DeserializeOwned, D: Serialize>(
            request: &str,
            describe: impl FnOnce(&R) -> Result<D, PluginError>,
        ) -> Result<RString, PluginError> {
            text::write(&describe(&text::read(request)?)?)
        }
        let request = request.as_str();
        match what.as_str() {
            kind::ENCODER => described(request, P::describe_encoder),
            kind::LLM => described(request, P::describe_llm),
            kind::MIXER | kind::FUSION => described(request, P::describe_mixer),
            other => Err(PluginError::unsupported(format!(
                "this plugin does not know what a `{other}` is; it was built for version {} of the plugin API",
                crate::API_VERSION
            ))),
        }
    })
}

extern "C" fn load_encoder<P: Plugin>(request: RStr<'_>) -> Wire<EncoderObject> {
    answer("load_encoder", || {
        P::load_encoder(&text::read(request.as_str())?)
    })
}

extern "C" fn load_llm<P: Plugin>(request: RStr<'_>) -> Wire<LanguageModelObject> {
    answer("load_llm", || P::load_llm(&text::read(request.as_str())?))
}

extern "C" fn load_collective<P: Plugin>(request: RStr<'_>) -> Wire<CollectiveObject> {
    answer("join_collective", || {
        P::join_collective(&text::read(request.as_str())?)
    })
}

extern "C" fn load_mixer<P: Plugin>(
    request: RStr<'_>,
    weights: WireMixerWeights<'_>,
) -> Wire<MixerObject> {
    answer("load_mixer", || {
        let names: Vec<String> = text::read(weights.names.as_str())?;
        let weights = MixerWeights::new(&names, weights.values.as_slice(), weights.seed)?;
        P::load_mixer(&text::read(request.as_str())?, &weights)
    })
}

extern "C" fn devices<P: Plugin>() -> Wire<DeviceServiceObject> {
    answer("devices", P::devices)
}

/// The functions of a loaded library, as the host calls them.
#[derive(Clone, Copy)]
pub struct Module(PluginModuleRef);

impl Module {
    /// Wraps the root module of a library.
    pub fn new(module: PluginModuleRef) -> Self {
        Self(module)
    }

    /// See [`Plugin::init`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::init`], and [`crate::ErrorKind::PANIC`], which every method here may return.
    pub fn init(&self, services: &HostServices, sink: impl HostSink) -> Result<(), PluginError> {
        receive(self.0.init()(text::write(services)?.as_rstr(), wrap(sink)))
    }

    /// See [`Plugin::describe_encoder`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::describe_encoder`].
    pub fn describe_encoder(&self, request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        self.describe(kind::ENCODER, request)
    }

    /// See [`Plugin::load_encoder`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::load_encoder`].
    pub fn load_encoder(&self, request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        receive(self.0.load_encoder()(text::write(request)?.as_rstr()))
    }

    /// See [`Plugin::describe_llm`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::describe_llm`].
    pub fn describe_llm(
        &self,
        request: &LanguageModelRequest,
    ) -> Result<LanguageModelInfo, PluginError> {
        self.describe(kind::LLM, request)
    }

    /// See [`Plugin::load_llm`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::load_llm`].
    pub fn load_llm(
        &self,
        request: &LanguageModelRequest,
    ) -> Result<LanguageModelObject, PluginError> {
        receive(self.0.load_llm()(text::write(request)?.as_rstr()))
    }

    /// See [`Plugin::join_collective`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::join_collective`].
    pub fn join_collective(
        &self,
        request: &CollectiveRequest,
    ) -> Result<CollectiveObject, PluginError> {
        receive(self.0.load_collective()(text::write(request)?.as_rstr()))
    }

    /// See [`Plugin::describe_mixer`]. `kind` is [`kind::MIXER`] or [`kind::FUSION`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::describe_mixer`].
    pub fn describe_mixer(
        &self,
        kind: &str,
        request: &MixerRequest,
    ) -> Result<MixerInfo, PluginError> {
        self.describe(kind, request)
    }

    /// See [`Plugin::load_mixer`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::load_mixer`].
    pub fn load_mixer(
        &self,
        request: &MixerRequest,
        weights: &MixerWeights<'_>,
    ) -> Result<MixerObject, PluginError> {
        let names = text::write(&weights.names())?;
        let weights = WireMixerWeights {
            names: names.as_rstr(),
            values: weights.values().into(),
            seed: weights.seed(),
        };
        receive(self.0.load_mixer()(
            text::write(request)?.as_rstr(),
            weights,
        ))
    }

    /// See [`Plugin::devices`].
    ///
    /// # Errors
    ///
    /// As for [`Plugin::devices`].
    pub fn devices(&self) -> Result<DeviceServiceObject, PluginError> {
        receive(self.0.devices()())
    }

    fn describe<D: DeserializeOwned>(
        &self,
        kind: &str,
        request: &impl Serialize,
    ) -> Result<D, PluginError> {
        let request = text::write(request)?;
        text::received(self.0.describe()(kind.into(), request.as_rstr()))
    }
}
#[cfg(next_minor)]
extern "C" fn listen() -> u32 {
    42
}
