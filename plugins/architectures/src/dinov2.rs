//! DINOv2 with registers (arXiv 2304.07193, 2309.16588): the ids of the encoders and the sizes of timm's models.

use crate::{
    Result,
    frame_tokens::FrameTokens,
    timm::{self, VitConfig, VitFeatures, VitVariant},
    variants::{self, Variant},
};
use merv_plugin_api::{EncoderInfo, EncoderRequest};

/// A tensor of the files that only training uses.
pub const UNUSED: &[&str] = &["mask_token"];

/// ImageNet's mean and standard deviation, as torchvision and timm state them.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

const LARGE: &str = "vit_large_patch14_reg4_dinov2";

/// MERV's ids.
pub const VARIANTS: [Variant<VitVariant>; 4] = [
    variant("dinov2-video", VitFeatures::Pooled),
    variant(
        "dinov2-video-all-tokens",
        VitFeatures::Tokens(FrameTokens::Patches),
    ),
    variant(
        "dinov2-video-all-token-with-cls",
        VitFeatures::Tokens(FrameTokens::ClassesFirst),
    ),
    variant(
        "dinov2-video-classemb-at-first",
        VitFeatures::Tokens(FrameTokens::MeanClassFirst),
    ),
];

const fn variant(id: &'static str, features: VitFeatures) -> Variant<VitVariant> {
    Variant {
        id,
        license: "Apache-2.0 (timm/vit_large_patch14_reg4_dinov2.lvd142m)",
        model: VitVariant {
            architecture: LARGE,
            features,
        },
    }
}

/// Determines the sizes of the encoder that is requested, and its description.
///
/// # Errors
///
/// When the id is unknown, the config file cannot be read, or the request does not fit the model.
pub fn describe(request: &EncoderRequest) -> Result<((VitConfig, VitFeatures), EncoderInfo)> {
    let variant = variants::find(&VARIANTS, &request.model.id)?;
    let model = timm::resolve(request, &architectures(), variant, [MEAN, STD])?;
    let info = model.describe(variant.features, request.num_frames);
    Ok(((model.sizes, variant.features), info))
}

/// Returns timm's architectures by name. The giant model is missing because its MLP is not supported.
fn architectures() -> Vec<(&'static str, VitConfig)> {
    let sized = |embed_dim, depth, num_heads| VitConfig {
        img_size: 518,
        patch_size: 14,
        embed_dim,
        depth,
        num_heads,
        reg_tokens: 4,
        no_embed_class: true,
        layer_scale: true,
        ..VitConfig::default()
    };
    vec![
        ("vit_small_patch14_reg4_dinov2", sized(384, 12, 6)),
        ("vit_base_patch14_reg4_dinov2", sized(768, 12, 12)),
        (LARGE, sized(1024, 24, 16)),
    ]
}
