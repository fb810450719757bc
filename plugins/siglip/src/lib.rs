//! SigLIP (arXiv 2303.15343) as a `merv-host` plugin: the patch tokens of timm's vision tower, frame
//! by frame. The trunk itself is [`merv_plugin_sdk::vit`], which DINOv2 shares.

mod config;

use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, Manifest, Plugin, PluginError,
};
use merv_plugin_sdk::{
    patch_tokens::PatchTokens,
    request, threads,
    timm::{self, VitConfig},
};

/// What the files hold besides the blocks: the final norm and the pooling head, which plain image
/// embeddings would need.
const UNUSED: &[&str] = &["norm.", "attn_pool.", "fc_norm.", "head."];

struct SiglipPlugin;

fn resolve(request: &EncoderRequest) -> Result<(VitConfig, EncoderInfo), PluginError> {
    let (sizes, image_size) = timm::resolve(request, &config::architectures(), config::PUBLISHED)?;
    let info = PatchTokens::describe(&sizes, request.num_frames, image_size, [0.5; 3], [0.5; 3]);
    Ok((sizes, info))
}

impl Plugin for SiglipPlugin {
    fn manifest() -> Manifest {
        Manifest::new("siglip", env!("CARGO_PKG_VERSION"))
            .license(env!("CARGO_PKG_LICENSE"))
            .backend("candle")
            .encoder(
                "siglip-vit-b16-224px-all-no-cls",
                "Apache-2.0 (timm/ViT-B-16-SigLIP)",
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

merv_plugin_api::export_plugin!(SiglipPlugin);
