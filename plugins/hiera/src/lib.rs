//! A `merv-host` plugin for Hiera (arXiv 2306.00989), whose features are the last stage's feature map of a
//! clip.
//!
//! It is a separate project, outside `merv-host`'s workspace. The host loads the library from the registry's
//! `plugin = { path = "…" }` and is not recompiled.

mod rows;
mod patch;
mod model;

use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, Manifest, Provided, feature};
use merv_plugin_sdk::{
    Result,
    architectures::hiera::{self, Config, VARIANTS},
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    precision::Precision,
    variants, weights,
};
use std::path::PathBuf;

const PROVIDED: [Provided; VARIANTS.len()] = variants::provided(&VARIANTS, &[feature::CANCEL]);

struct Hiera;

impl EncoderFamily for Hiera {
    type Model = Config;

    const MANIFEST: Manifest = Manifest::new("hiera", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        hiera::describe(request)
    }

    fn load(config: Self::Model, info: EncoderInfo, paths: &[PathBuf]) -> Result<EncoderObject> {
        let unused = hiera::unused();
        let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
        let model = weights::load(paths, &unused, |scope| {
            let scope = scope.below(hiera::root(|name| scope.contains(name)));
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::Hiera::new(config, info, &scope)
        })?;
        Ok(EncoderObject::new(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<Hiera>);
