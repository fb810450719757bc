//! SigLIP (arXiv 2303.15343): the ids of the encoders and the sizes of timm's vision towers.

use crate::{
    Result,
    frame_tokens::FrameTokens,
    timm::{self, Pool, VitConfig, VitFeatures, VitVariant},
    variants::{self, Variant},
};
use merv_plugin_api::{EncoderInfo, EncoderRequest, PluginError};

const B16_224: &str = "vit_base_patch16_siglip_224";
const B16_256: &str = "vit_base_patch16_siglip_256";
const B16_384: &str = "vit_base_patch16_siglip_384";
const SO400M_224: &str = "vit_so400m_patch14_siglip_224";
const SO400M_384: &str = "vit_so400m_patch14_siglip_384";

/// MERV's ids. Their features are the patches, or one pooled vector per frame. As in MERV, all of them run at
/// 224 pixels unless the registry sets another size, regardless of the size that the weights were trained at.
pub const VARIANTS: [Variant<VitVariant>; 11] = [
    pooled("siglip-vit-b16-224px", B16_224),
    patches("siglip-vit-b16-224px-all-tokens", B16_224),
    patches("siglip-vit-b16-224px-all-no-cls", B16_224),
    pooled("siglip-vit-b16-256px", B16_256),
    patches("siglip-vit-b16-256px-all-tokens", B16_256),
    pooled("siglip-vit-b16-384px", B16_384),
    patches("siglip-vit-b16-384px-all-tokens", B16_384),
    pooled("siglip-vit-so400m", SO400M_224),
    patches("siglip-vit-so400m-all-tokens", SO400M_224),
    pooled("siglip-vit-so400m-384px", SO400M_384),
    patches("siglip-vit-so400m-384px-all-tokens", SO400M_384),
];

/// An id of MERV that does not work, because SigLIP has no class token. It fails in MERV too.
pub const WITHOUT_CLASS_TOKEN: &str = "siglip-vit-b16-224px-classemb-at-first";

const fn pooled(id: &'static str, architecture: &'static str) -> Variant<VitVariant> {
    variant(id, architecture, VitFeatures::Pooled)
}

const fn patches(id: &'static str, architecture: &'static str) -> Variant<VitVariant> {
    variant(id, architecture, VitFeatures::Tokens(FrameTokens::Patches))
}

const fn variant(
    id: &'static str,
    architecture: &'static str,
    features: VitFeatures,
) -> Variant<VitVariant> {
    Variant {
        id,
        license: "Apache-2.0 (timm/ViT-…-SigLIP, timm/vit_…_siglip_….webli)",
        model: VitVariant {
            architecture,
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
    let id = request.model.id.as_str();
    if id == WITHOUT_CLASS_TOKEN {
        return Err(PluginError::unsupported(format!(
            "`{id}` needs a class token before the patches, but SigLIP has none; \
             use `siglip-vit-b16-224px-all-no-cls`"
        )));
    }
    let variant = variants::find(&VARIANTS, id)?;
    let model = timm::resolve(request, &architectures(), variant, [[0.5; 3]; 2])?;
    let info = model.describe(variant.features, request.num_frames);
    Ok(((model.sizes, variant.features), info))
}

/// Returns timm's architectures by name.
fn architectures() -> Vec<(&'static str, VitConfig)> {
    let base = |img_size| VitConfig {
        img_size,
        class_token: false,
        pool: Pool::Map,
        ..VitConfig::default()
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
        (B16_224, base(224)),
        (B16_256, base(256)),
        (B16_384, base(384)),
        (SO400M_224, so400m(224)),
        (SO400M_384, so400m(384)),
    ]
}
