//! A plugin that can fail in every way in which a plugin can fail. The id of a model selects the failure. No model needs
//! weights. The models have the sizes of the lively model's SigLIP and Llama, so that they can replace them.
//!
//! `$MERV_FAULTY_INIT`, set to `panic` or `error`, makes `init` fail.

#![allow(clippy::panic)]

mod encoder;
mod llm;

use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, LanguageModelInfo,
    LanguageModelObject, LanguageModelRequest, LogLevel, Manifest, Plugin, PluginError, Provided,
    log,
};

struct Faulty;

const PROVIDED: [Provided; encoder::ENCODERS.len() + 1 + llm::IDS.len()] = {
    let mut all = [encoder::PATIENT; encoder::ENCODERS.len() + 1 + llm::IDS.len()];
    let mut index = 0;
    while index < encoder::ENCODERS.len() {
        all[index + 1] = encoder::ENCODERS[index];
        index += 1;
    }
    let mut llm = 0;
    while llm < llm::IDS.len() {
        all[index + 1 + llm] = Provided::llm(llm::IDS[llm], "no weights");
        llm += 1;
    }
    all
};

impl Plugin for Faulty {
    const MANIFEST: Manifest = Manifest::new("faulty", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .provides(&PROVIDED);

    fn init(_: &HostServices) -> Result<(), PluginError> {
        match std::env::var("MERV_FAULTY_INIT").as_deref() {
            Ok("panic") => panic!("init blew up, as requested"),
            Ok("error") => {
                log(LogLevel::INFO, "init was called");
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
