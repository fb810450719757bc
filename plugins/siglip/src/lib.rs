//! A `merv-host` plugin for SigLIP (arXiv 2303.15343): timm's vision tower, applied to each frame. The
//! encoder itself is [`merv_plugin_sdk::models::frame_encoder`], shared with DINOv2.

mod config;

use config::{VARIANTS, WITHOUT_CLASS_TOKEN};
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

struct SiglipPlugin;

fn resolve(request: &EncoderRequest) -> Result<(VitConfig, VitFeatures, EncoderInfo), PluginError> {
    let id = request.model.id.as_str();
    if id == WITHOUT_CLASS_TOKEN {
        return Err(PluginError::unsupported(format!(
            "`{id}` needs a class token before the patches, but SigLIP has none; \
             use `siglip-vit-b16-224px-all-no-cls`"
        )));
    }
    let variant = variants::find(&VARIANTS, id)?;
    let model = timm::resolve(request, &config::architectures(), variant, [[0.5; 3]; 2])?;
    let features = variant.features;
    let info = FrameEncoder::describe(&model, features, request.num_frames);
    Ok((model.sizes, features, info))
}

impl Plugin for SiglipPlugin {
    fn manifest() -> Manifest {
        let manifest = Manifest::new("siglip", env!("CARGO_PKG_VERSION"))
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
            &paths,
            &[],
            &sizes,
            features,
            info,
        )?))
    }
}

merv_plugin_api::export_plugin!(SiglipPlugin);
