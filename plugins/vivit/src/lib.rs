//! A `merv-host` plugin for ViViT (arXiv 2103.15691), whose features are the tokens of a clip.

mod model;

use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, Manifest, Provided, feature};
use merv_plugin_sdk::{
    Result,
    architectures::vivit::{self, ClipTokens, Config, UNUSED, VARIANTS},
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    precision::Precision,
    variants, weights,
};
use std::path::PathBuf;

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct Vivit;

impl EncoderFamily for Vivit {
    type Model = (Config, ClipTokens);

    const MANIFEST: Manifest = Manifest::new("vivit", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        vivit::describe(request)
    }

    fn load(
        (config, tokens): Self::Model,
        info: EncoderInfo,
        paths: &[PathBuf],
    ) -> Result<EncoderObject> {
        let model = weights::load(paths, UNUSED, |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::Vivit::new(&config, tokens, info, &scope)
        })?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<Vivit>);
