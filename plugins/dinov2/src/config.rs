//! The sizes of timm's DINOv2 models with registers.

use merv_plugin_sdk::timm::VitConfig;

/// The architecture behind `dinov2-video-all-tokens`.
pub const PUBLISHED: &str = "vit_large_patch14_reg4_dinov2";

/// timm's architectures by name. (The giant has another perceptron, so it is not here.)
pub fn architectures() -> Vec<(&'static str, VitConfig)> {
    let sized = |embed_dim, depth, num_heads| VitConfig {
        img_size: 518,
        patch_size: 14,
        embed_dim,
        depth,
        num_heads,
        mlp_ratio: 4.0,
        class_token: true,
        reg_tokens: 4,
        layer_scale: true,
    };
    vec![
        ("vit_small_patch14_reg4_dinov2", sized(384, 12, 6)),
        ("vit_base_patch14_reg4_dinov2", sized(768, 12, 12)),
        (PUBLISHED, sized(1024, 24, 16)),
    ]
}
