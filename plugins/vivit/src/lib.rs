//! ViViT (arXiv 2103.15691) as a `merv-host` plugin: the tubelet tokens of a clip.

mod config;
mod model;

use config::Config;
use merv_plugin_api::{
    DType, EncoderInfo, EncoderObject, EncoderRequest, HostServices, Interpolation, Manifest,
    Plugin, PluginError, PreprocessSpec, ResizeDomain,
};
use merv_plugin_sdk::{
    config::{in_file, read},
    request, threads, weights,
};

struct VivitPlugin;

fn resolve(request: &EncoderRequest) -> Result<(Config, EncoderInfo), PluginError> {
    request::check_cpu_f32(&request.model)?;
    let path = request::config(&request.model);
    let config = match &path {
        Some(path) => read::<Config>(path)?,
        None => Config::published(),
    };
    let asked = request.image_size.into_option().map(|size| size as usize);
    in_file(
        path.as_deref(),
        config.check(request.num_frames as usize, asked),
    )?;
    let image_size = config.image_size as u32;
    let info = EncoderInfo {
        width: config.hidden_size as u32,
        num_frames: request.num_frames,
        image_size,
        temporal: config.temporal() as u32,
        spatial: config.spatial() as u32,
        preprocess: PreprocessSpec {
            image_size,
            // Upstream's image processor scales the short side to 256 for crops of 224.
            short_side: image_size * 256 / 224,
            interpolation: Interpolation::Bilinear,
            domain: ResizeDomain::PillowU8,
            mean: [0.5; 3],
            std: [0.5; 3],
        },
        dtype: DType::F32,
        parameters: config.parameters(),
        macs_per_clip: config.macs(),
    };
    Ok((config, info))
}

impl Plugin for VivitPlugin {
    fn manifest() -> Manifest {
        Manifest::new("vivit", env!("CARGO_PKG_VERSION"))
            .license(env!("CARGO_PKG_LICENSE"))
            .backend("candle")
            .encoder(
                "vivit-google-b-all-no-cls-16frames",
                "MIT (google/vivit-b-16x2-kinetics400)",
            )
    }

    fn init(host: &HostServices) -> Result<(), PluginError> {
        threads::init(host)
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        Ok(resolve(request)?.1)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        let (config, info) = resolve(request)?;
        let paths = request::weights(&request.model);
        let model = weights::load(&paths, &["classifier."], |scope| {
            model::Vivit::new(&config, info, &scope)
        })?;
        Ok(EncoderObject::new(model))
    }
}

merv_plugin_api::export_plugin!(VivitPlugin);
