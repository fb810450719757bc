//! A `merv-host` plugin for LanguageBind (arXiv 2310.01852), whose features are the tokens of the video
//! tower.

mod model;

use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, Manifest, Provided, feature};
use merv_plugin_sdk::{
    Result,
    architectures::{
        frame_tokens::FrameTokens,
        languagebind::{self, Config, VARIANTS},
    },
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    precision::Precision,
    variants, weights,
};
use std::path::PathBuf;

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct LanguageBind;

impl EncoderFamily for LanguageBind {
    type Model = (Config, FrameTokens);

    const MANIFEST: Manifest = Manifest::new("languagebind", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        languagebind::describe(request)
    }

    fn load(
        (config, choice): Self::Model,
        info: EncoderInfo,
        paths: &[PathBuf],
    ) -> Result<EncoderObject> {
        let unused = languagebind::unused(&config);
        let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
        let model = weights::load(paths, &unused, |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::LanguageBind::new(&config, choice, info, &scope)
        })?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<LanguageBind>);
