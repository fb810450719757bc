//! The sizes of timm's SigLIP vision towers.

use merv_plugin_sdk::timm::VitConfig;

/// The architecture behind `siglip-vit-b16-224px-all-no-cls`.
pub const PUBLISHED: &str = "vit_base_patch16_siglip_224";

/// timm's architectures by name.
pub fn architectures() -> Vec<(&'static str, VitConfig)> {
    let base = |img_size| VitConfig {
        img_size,
        patch_size: 16,
        embed_dim: 768,
        depth: 12,
        num_heads: 12,
        mlp_ratio: 4.0,
        class_token: false,
        reg_tokens: 0,
        layer_scale: false,
    };
    let so400m = |img_size| VitConfig {
        patch_size: 14,
        embed_dim: 1152,
        depth: 27,
        num_heads: 16,
        mlp_ratio: 3.7362,
        ..base(img_size)
    };
    vec![
        (PUBLISHED, base(224)),
        ("vit_base_patch16_siglip_256", base(256)),
        ("vit_base_patch16_siglip_384", base(384)),
        ("vit_so400m_patch14_siglip_224", so400m(224)),
        ("vit_so400m_patch14_siglip_384", so400m(384)),
    ]
}
