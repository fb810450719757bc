//! The ids of DINOv2 encoders and the sizes of timm's models with registers.

use merv_plugin_sdk::{
    models::{
        frame_tokens::FrameTokens,
        timm::{VitConfig, VitFeatures, VitVariant},
    },
    variants::Variant,
};

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

/// Returns timm's architectures by name. The giant model is missing because its MLP is not supported.
pub fn architectures() -> Vec<(&'static str, VitConfig)> {
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
