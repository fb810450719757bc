//! DINOv2 with registers (arXiv 2304.07193, 2309.16588) as a `merv-host` plugin: the patch tokens of timm's model, frame
//! by frame. The trunk itself is [`merv_plugin_sdk::vit`], which SigLIP shares.

mod config;

use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, Manifest, Plugin, PluginError,
};
use merv_plugin_sdk::{
    patch_tokens::PatchTokens,
    request, threads,
    timm::{self, VitConfig},
};

/// What the files hold besides the blocks: the final norm, and a token that only training used.
const UNUSED: &[&str] = &["norm.", "mask_token", "head."];

/// ImageNet's mean and standard deviation, as torchvision and timm state them.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

struct DinoV2Plugin;

fn resolve(request: &EncoderRequest) -> Result<(VitConfig, EncoderInfo), PluginError> {
    let (sizes, image_size) = timm::resolve(request, &config::architectures(), config::PUBLISHED)?;
    let info = PatchTokens::describe(&sizes, request.num_frames, image_size, MEAN, STD);
    Ok((sizes, info))
}

impl Plugin for DinoV2Plugin {
    fn manifest() -> Manifest {
        Manifest::new("dinov2", env!("CARGO_PKG_VERSION"))
            .license(env!("CARGO_PKG_LICENSE"))
            .backend("candle")
            .encoder(
                "dinov2-video-all-tokens",
                "Apache-2.0 (timm/vit_large_patch14_reg4_dinov2.lvd142m)",
            )
    }

    fn init(host: &HostServices) -> Result<(), PluginError> {
        threads::init(host)
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        Ok(resolve(request)?.1)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        let (sizes, info) = resolve(request)?;
        let paths = request::weights(&request.model);
        Ok(EncoderObject::new(PatchTokens::load(
            &paths, UNUSED, &sizes, info,
        )?))
    }
}

merv_plugin_api::export_plugin!(DinoV2Plugin);
