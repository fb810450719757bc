//! A `merv-host` plugin for ViViT (arXiv 2103.15691), whose features are the tokens of a clip.

mod config;
mod model;

use config::{ClipTokens, Config, VARIANTS};
use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, Manifest, PreprocessSpec, Provided, feature,
};
use merv_plugin_sdk::{
    Result,
    config::{in_file, read},
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    precision::Precision,
    request, variants, weights,
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
        let tokens = *variants::find(&VARIANTS, &request.model.id)?;
        let precision = request::precision(&request.model)?;
        let path = request.model.config.clone();
        let config = match &path {
            Some(path) => read::<Config>(path)?,
            None => Config::published(),
        };
        let requested = request.image_size.map(|size| size as usize);
        in_file(path.as_deref(), config.check())?;
        config.check_clips(request.num_frames as usize, requested)?;
        let positions = "embeddings.position_embeddings";
        weights::agree(
            &request.model.weights,
            &[(
                &[positions, &format!("vivit.{positions}")],
                &[1, config.tokens(), config.hidden_size],
                "`num_frames`, `image_size`, `tubelet_size` and `hidden_size`",
            )],
        )?;
        let image_size = config.image_size as u32;
        let (temporal, spatial) = config.shape(tokens);
        // The original image processor scales the short side to 256 for crops of 224.
        let preprocess = PreprocessSpec::new(image_size)
            .short_side(image_size * 256 / 224)
            .normalise([0.5; 3], [0.5; 3]);
        let (width, grid) = (config.hidden_size as u32, [temporal, spatial]);
        let grid = grid.map(|size| size as u32);
        let info = EncoderInfo::new(width, request.num_frames, grid, preprocess)
            .dtype(precision.dtype())
            .cost(config.parameters(), config.macs());
        Ok(((config, tokens), info))
    }

    fn load(
        (config, tokens): Self::Model,
        info: EncoderInfo,
        paths: &[PathBuf],
    ) -> Result<EncoderObject> {
        let model = weights::load(paths, &["classifier."], |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::Vivit::new(&config, tokens, info, &scope)
        })?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<Vivit>);
