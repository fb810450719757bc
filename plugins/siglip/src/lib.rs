//! A `merv-host` plugin for SigLIP (arXiv 2303.15343): timm's vision tower, applied to each frame. The
//! encoder itself is [`merv_plugin_sdk::models::frame_encoder`], shared with DINOv2.

mod config;

use config::{VARIANTS, WITHOUT_CLASS_TOKEN};
use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, Manifest, PluginError, Provided, feature,
};
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

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct Siglip;

impl EncoderFamily for Siglip {
    type Model = (VitConfig, VitFeatures);

    const MANIFEST: Manifest = Manifest::new("siglip", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        let id = request.model.id.as_str();
        if id == WITHOUT_CLASS_TOKEN {
            return Err(PluginError::unsupported(format!(
                "`{id}` needs a class token before the patches, but SigLIP has none; \
                 use `siglip-vit-b16-224px-all-no-cls`"
            )));
        }
        let variant = variants::find(&VARIANTS, id)?;
        let model = timm::resolve(request, &config::architectures(), variant, [[0.5; 3]; 2])?;
        let features = variant.features;
        let info = FrameEncoder::describe(&model, features, request.num_frames);
        Ok(((model.sizes, features), info))
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
