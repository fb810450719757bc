//! A plugin that returns tensors on a device without a service for its memory. It also provides the models of the
//! pretend device for the CPU alone, so that two plugins provide the same ids.

use merv_plugin_api::{
    Clips, DType, Device, DeviceKind, Encoder, EncoderInfo, EncoderObject, EncoderRequest,
    LanguageModelInfo, LanguageModelRequest, Manifest, Plugin, PluginError, PreprocessSpec,
    Provided, Stream, TensorBuf, feature,
};
use std::ptr;

/// An encoder that states the feature of device tensors.
const STATED: &str = "stray-encoder-stated";

struct StrayDevice;

struct Stray(EncoderInfo);

impl Encoder for Stray {
    fn info(&self) -> EncoderInfo {
        self.0.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let batch = clips.pixels.shape().first().copied().unwrap_or_default();
        let tokens = (self.0.temporal * self.0.spatial) as usize;
        let shape = [batch, tokens, self.0.width as usize];
        let device = Device::new(DeviceKind::EXTENSION, 0);
        let address = ptr::without_provenance(1 << 40);
        // SAFETY: nothing can read the memory, because there is no service for it.
        unsafe {
            TensorBuf::from_raw(
                address,
                DType::F32,
                device,
                &shape,
                Stream::COMPLETE,
                |_| (),
            )
        }
    }
}

impl Plugin for StrayDevice {
    const MANIFEST: Manifest = Manifest::new("stray-device", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .backend("stray")
        .provides(&[
            Provided::encoder("stray-encoder", "no weights").without_weights(),
            Provided::encoder(STATED, "no weights")
                .without_weights()
                .features(&[feature::DEVICE_TENSORS]),
            Provided::encoder("pretend-encoder", "no weights").without_weights(),
            Provided::llm("pretend-llm", "no weights"),
        ]);

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        let positions = [request.num_frames, 64];
        let info = EncoderInfo::new(64, request.num_frames, positions, PreprocessSpec::new(64));
        Ok(info.device(request.model.device))
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Ok(EncoderObject::new(Stray(Self::describe_encoder(request)?)))
    }

    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        Ok(LanguageModelInfo::new(96, 1024, 1024).device(request.model.device))
    }
}

merv_plugin_api::export_plugin!(StrayDevice);
