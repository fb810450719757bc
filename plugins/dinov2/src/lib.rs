//! A `merv-host` plugin for DINOv2 with registers (arXiv 2304.07193, 2309.16588): timm's model, applied to
//! each frame. The encoder itself is [`merv_plugin_sdk::models::frame_encoder`], shared with SigLIP.

use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, Manifest, Provided, feature};
use merv_plugin_sdk::{
    Result,
    architectures::{
        dinov2::{self, UNUSED, VARIANTS},
        timm::{VitConfig, VitFeatures},
    },
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    models::frame_encoder::FrameEncoder,
    variants,
};
use std::path::PathBuf;

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct DinoV2;

impl EncoderFamily for DinoV2 {
    type Model = (VitConfig, VitFeatures);

    const MANIFEST: Manifest = Manifest::new("dinov2", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        dinov2::describe(request)
    }

    fn load(
        (sizes, features): Self::Model,
        info: EncoderInfo,
        weights: &[PathBuf],
    ) -> Result<EncoderObject> {
        let model = FrameEncoder::load(weights, UNUSED, &sizes, features, info)?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<DinoV2>);
