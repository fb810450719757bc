//! A `merv-host` plugin for DINOv2 with registers (arXiv 2304.07193, 2309.16588): timm's model, applied to
//! each frame. The encoder itself is [`merv_plugin_sdk::models::frame_encoder`], shared with SigLIP.

mod config;

use config::VARIANTS;
use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, Manifest, Plugin, PluginError,
};
use merv_plugin_sdk::{
    models::{
        frame_encoder::FrameEncoder,
        timm::{self, VitConfig, VitFeatures},
    },
    request, threads, variants,
};

/// A tensor of the files that only training uses.
const UNUSED: &[&str] = &["mask_token"];

/// ImageNet's mean and standard deviation, as torchvision and timm state them.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

struct DinoV2Plugin;

fn resolve(request: &EncoderRequest) -> Result<(VitConfig, VitFeatures, EncoderInfo), PluginError> {
    let variant = variants::find(&VARIANTS, &request.model.id)?;
    let model = timm::resolve(request, &config::architectures(), variant, [MEAN, STD])?;
    let features = variant.features;
    let info = FrameEncoder::describe(&model, features, request.num_frames);
    Ok((model.sizes, features, info))
}

impl Plugin for DinoV2Plugin {
    fn manifest() -> Manifest {
        let manifest = Manifest::new("dinov2", env!("CARGO_PKG_VERSION"))
            .license(env!("CARGO_PKG_LICENSE"))
            .backend("candle");
        variants::listed(manifest, &VARIANTS)
    }

    fn init(host: &HostServices) -> Result<(), PluginError> {
        threads::init(host)
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        Ok(resolve(request)?.2)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        let (sizes, features, info) = resolve(request)?;
        let paths = request::weights(&request.model);
        Ok(EncoderObject::trainable(FrameEncoder::load(
            &paths, UNUSED, &sizes, features, info,
        )?))
    }
}

merv_plugin_api::export_plugin!(DinoV2Plugin);
