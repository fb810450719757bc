//! A plugin with a pretend device of kind `ext`. Its addresses are numbers that no pointer can be followed to, and its
//! streams finish only when somebody waits for them. So a test notices every access and every copy that should not be.
//!
//! Each model gives the same numbers on the CPU, where it uses only main memory. The models have the sizes of the
//! lively model's SigLIP and Llama, so that they can replace them.

mod encoder;
mod llm;
mod memory;
mod scale;
mod service;
mod table;

use merv_plugin_api::{
    Device, DeviceServiceObject, EncoderInfo, EncoderObject, EncoderRequest, LanguageModelInfo,
    LanguageModelObject, LanguageModelRequest, Manifest, Plugin, PluginError, Provided, feature,
};

struct PretendDevice;

impl Plugin for PretendDevice {
    const MANIFEST: Manifest = Manifest::new("pretend-device", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .backend("pretend")
        .devices(&["cpu", "ext"])
        .provides(&[
            Provided::encoder(encoder::ON_DEVICE, "no weights")
                .without_weights()
                .features(&[feature::DEVICE_TENSORS, feature::TRAIN]),
            Provided::encoder(encoder::IN_MAIN_MEMORY, "no weights").without_weights(),
            Provided::llm(llm::ID, "no weights").features(&[feature::DEVICE_TENSORS]),
        ]);

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        encoder::describe(request)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        let model = encoder::MeanColours::load(request)?;
        Ok(match request.model.id == encoder::ON_DEVICE {
            true => EncoderObject::trainable(model),
            false => EncoderObject::new(model),
        })
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        llm::describe(request)
    }

    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        Ok(LanguageModelObject::new(llm::Toy::load(request)?))
    }

    fn devices() -> Result<DeviceServiceObject, PluginError> {
        Ok(DeviceServiceObject::new(service::Service))
    }
}

/// Checks that a requested device exists.
fn present(device: Device) -> Result<Device, PluginError> {
    match device == Device::CPU {
        true => Ok(device),
        false => table::capacity(device).map(|_| device),
    }
}

merv_plugin_api::export_plugin!(PretendDevice);
