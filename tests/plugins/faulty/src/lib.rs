//! A plugin that can fail in every way in which a plugin can fail. The id of a model selects the failure. No model needs
//! weights. The models have the sizes of the lively model's SigLIP and Llama, so that they can replace them.
//!
//! `$MERV_FAULTY_INIT`, set to `panic` or `error`, makes `init` fail.

#![allow(clippy::panic)]

mod encoder;
mod llm;

use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, LanguageModelInfo,
    LanguageModelObject, LanguageModelRequest, LogLevel, Manifest, Plugin, PluginError, log,
};

struct Faulty;

impl Plugin for Faulty {
    fn manifest() -> Manifest {
        let manifest = Manifest::new("faulty", env!("CARGO_PKG_VERSION")).license("MIT");
        let manifest = encoder::IDS
            .iter()
            .fold(manifest, |m, id| m.encoder_without_weights(id));
        llm::IDS
            .iter()
            .fold(manifest, |m, id| m.llm(id, "no weights"))
    }

    fn init(_: &HostServices) -> Result<(), PluginError> {
        // This library panics often. Without the hook, each panic would print a line or, with `RUST_BACKTRACE`, a page.
        // The hook applies only to this library, which has its own copy of the standard library.
        std::panic::set_hook(Box::new(|_| {}));
        match std::env::var("MERV_FAULTY_INIT").as_deref() {
            Ok("panic") => panic!("init blew up, as requested"),
            Ok("error") => {
                log(LogLevel::Info, "init was called");
                Err(PluginError::unsupported("init refused, as requested"))
            }
            _ => Ok(()),
        }
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        encoder::describe(request)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        encoder::load(request)
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        Ok(llm::info(&request.model.id))
    }

    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        Ok(LanguageModelObject::new(llm::Toy::new(&request.model.id)))
    }
}

merv_plugin_api::export_plugin!(Faulty);
