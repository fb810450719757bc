//! A `merv-host` plugin for ViViT (arXiv 2103.15691), whose features are the tokens of a clip.

mod config;
mod model;

use config::{ClipTokens, Config, VARIANTS};
use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, Interpolation, Manifest, Plugin,
    PluginError, PreprocessSpec, ResizeDomain,
};
use merv_plugin_sdk::{
    config::{in_file, read},
    precision::Precision,
    request, threads, variants, weights,
};

struct VivitPlugin;

fn resolve(request: &EncoderRequest) -> Result<(Config, ClipTokens, EncoderInfo), PluginError> {
    let tokens = *variants::find(&VARIANTS, &request.model.id)?;
    let precision = request::precision(&request.model)?;
    let path = request::config(&request.model);
    let config = match &path {
        Some(path) => read::<Config>(path)?,
        None => Config::published(),
    };
    let requested = request.image_size.into_option().map(|size| size as usize);
    in_file(path.as_deref(), config.check())?;
    config.check_clips(request.num_frames as usize, requested)?;
    let positions = "embeddings.position_embeddings";
    weights::agree(
        &request::weights(&request.model),
        &[(
            &[positions, &format!("vivit.{positions}")],
            &[1, config.tokens(), config.hidden_size],
            "`num_frames`, `image_size`, `tubelet_size` and `hidden_size`",
        )],
    )?;
    let image_size = config.image_size as u32;
    let (temporal, spatial) = config.shape(tokens);
    let info = EncoderInfo {
        width: config.hidden_size as u32,
        num_frames: request.num_frames,
        image_size,
        temporal: temporal as u32,
        spatial: spatial as u32,
        preprocess: PreprocessSpec {
            image_size,
            // The original image processor scales the short side to 256 for crops of 224.
            short_side: image_size * 256 / 224,
            interpolation: Interpolation::Bilinear,
            domain: ResizeDomain::PillowU8,
            mean: [0.5; 3],
            std: [0.5; 3],
        },
        dtype: precision.dtype(),
        parameters: config.parameters(),
        macs_per_clip: config.macs(),
    };
    Ok((config, tokens, info))
}

impl Plugin for VivitPlugin {
    fn manifest() -> Manifest {
        let manifest = Manifest::new("vivit", env!("CARGO_PKG_VERSION"))
            .license(env!("CARGO_PKG_LICENSE"))
            .backend("candle");
        variants::listed(manifest, &VARIANTS)
    }

    fn init(host: &HostServices) -> Result<(), PluginError> {
        threads::init(host)
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        Ok(resolve(request)?.2)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        let (config, tokens, info) = resolve(request)?;
        let paths = request::weights(&request.model);
        let model = weights::load(&paths, &["classifier."], |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::Vivit::new(&config, tokens, info, &scope)
        })?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(VivitPlugin);
