//! A `merv-host` plugin for LanguageBind (arXiv 2310.01852), whose features are the tokens of the video
//! tower.

mod config;
mod model;

use config::{Config, ConfigFile, VARIANTS};
use merv_plugin_api::{
    EncoderInfo, EncoderObject, EncoderRequest, Manifest, PreprocessSpec, Provided, ResizeDomain,
    feature,
};
use merv_plugin_sdk::{
    Result,
    config::{in_file, read},
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    models::frame_tokens::FrameTokens,
    precision::Precision,
    request, variants, weights,
};
use std::path::PathBuf;

/// OpenAI CLIP's mean and standard deviation.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

const PROVIDED: [Provided; VARIANTS.len()] =
    variants::provided(&VARIANTS, &[feature::TRAIN, feature::CANCEL]);

struct LanguageBind;

impl EncoderFamily for LanguageBind {
    type Model = (Config, FrameTokens);

    const MANIFEST: Manifest = Manifest::new("languagebind", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        let choice = *variants::find(&VARIANTS, &request.model.id)?;
        let precision = request::precision(&request.model)?;
        let path = request.model.config.clone();
        let config = match &path {
            Some(path) => read::<ConfigFile>(path)?.vision_config,
            None => Config::published(),
        };
        let requested = request.image_size.map(|size| size as usize);
        in_file(path.as_deref(), config.check())?;
        config.check_clips(request.num_frames as usize, requested)?;
        let width = config.hidden_size;
        let temporal_names = [model::LAYERS, model::ADAPTED_LAYERS]
            .map(|layers| format!("vision_model.{layers}.layers.0.temporal_embedding"));
        weights::agree(
            &request.model.weights,
            &[
                (
                    &["vision_model.embeddings.position_embedding.weight"],
                    &[config.tokens(), width],
                    "`image_size`, `patch_size` and `hidden_size`",
                ),
                (
                    &[&temporal_names[0], &temporal_names[1]],
                    &[1, config.num_frames, width],
                    "`num_frames` and `hidden_size`",
                ),
            ],
        )?;
        let image_size = config.image_size as u32;
        let (temporal, spatial) = choice.shape(request.num_frames as usize, config.grid().pow(2));
        let preprocess = PreprocessSpec::new(image_size)
            .domain(ResizeDomain::TORCH_F32)
            .normalise(MEAN, STD);
        let macs = u64::from(request.num_frames) * config.macs_per_frame();
        let grid = [temporal, spatial];
        let info = EncoderInfo::new(width as u32, request.num_frames, grid, preprocess)
            .dtype(precision.dtype())
            .cost(config.parameters(), macs);
        Ok(((config, choice), info))
    }

    fn load(
        (config, choice): Self::Model,
        info: EncoderInfo,
        paths: &[PathBuf],
    ) -> Result<EncoderObject> {
        // The text tower, the projections into the shared space, and the last layer.
        let last = format!("layers.{}.", config.used_layers());
        let last_layers = [model::LAYERS, model::ADAPTED_LAYERS]
            .map(|encoder| format!("vision_model.{encoder}.{last}"));
        let unused = [
            "text_model.",
            "visual_projection.",
            "text_projection.",
            "logit_scale",
            "vision_model.post_layernorm.",
            &last_layers[0],
            &last_layers[1],
        ];
        let model = weights::load(paths, &unused, |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::LanguageBind::new(&config, choice, info, &scope)
        })?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<LanguageBind>);
