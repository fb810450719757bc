//! A `merv-host` plugin for SigLIP (arXiv 2303.15343): timm's vision tower, applied to each frame. The
//! encoder itself is [`merv_plugin_sdk::models::frame_encoder`], shared with DINOv2.

use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, Manifest, Provided, feature};
use merv_plugin_sdk::{
    Result,
    architectures::{
        siglip::{self, VARIANTS},
        timm::{VitConfig, VitFeatures},
    },
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    models::frame_encoder::FrameEncoder,
    variants,
};
use std::path::PathBuf;

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct Siglip;

impl EncoderFamily for Siglip {
    type Model = (VitConfig, VitFeatures);

    const MANIFEST: Manifest = Manifest::new("siglip", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        siglip::describe(request)
    }

    fn load(
        (sizes, features): Self::Model,
        info: EncoderInfo,
        weights: &[PathBuf],
    ) -> Result<EncoderObject> {
        let model = FrameEncoder::load(weights, &[], &sizes, features, info)?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<Siglip>);
