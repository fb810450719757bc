//! A `merv-host` plugin for DINOv2 with registers (arXiv 2304.07193, 2309.16588): timm's model, applied to
//! each frame. The encoder itself is [`merv_plugin_sdk::models::frame_encoder`], shared with SigLIP.

mod config;

use config::VARIANTS;
use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, Manifest, Provided, feature};
use merv_plugin_sdk::{
    Result,
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    models::{
        frame_encoder::FrameEncoder,
        timm::{self, VitConfig, VitFeatures},
    },
    variants,
};
use std::path::PathBuf;

/// A tensor of the files that only training uses.
const UNUSED: &[&str] = &["mask_token"];

/// ImageNet's mean and standard deviation, as torchvision and timm state them.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct DinoV2;

impl EncoderFamily for DinoV2 {
    type Model = (VitConfig, VitFeatures);

    const MANIFEST: Manifest = Manifest::new("dinov2", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        let variant = variants::find(&VARIANTS, &request.model.id)?;
        let model = timm::resolve(request, &config::architectures(), variant, [MEAN, STD])?;
        let features = variant.features;
        let info = FrameEncoder::describe(&model, features, request.num_frames);
        Ok(((model.sizes, features), info))
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
