//! A `merv-host` plugin for Hiera (arXiv 2306.00989), whose features are the last stage's feature map of a
//! clip.
//!
//! It is a separate project, outside `merv-host`'s workspace. The host loads the library from the registry's
//! `plugin = { path = "…" }` and is not recompiled.

mod config;
mod mask_units;
mod patch;
mod model;

use config::{Config, VARIANTS};
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

/// The other tensors of the files: the final norm, the classifier and, if the masked autoencoder was not
/// finetuned, its decoder.
const UNUSED: [&str; 9] = [
    "norm.",
    "head.",
    "encoder_norm.",
    "mask_token",
    "decoder_embed.",
    "decoder_pos_embed",
    "decoder_blocks.",
    "decoder_norm.",
    "decoder_pred.",
];

/// The autoencoder's convolutions, which bring the outputs of all stages to one size.
const FUSION_HEADS: &str = "multi_scale_fusion_heads.";

/// The dictionary that contains the weights in `.pth` files.
const STATE: &str = "model_state";

const PROVIDED: [Provided; VARIANTS.len()] = variants::provided(&VARIANTS, &[feature::CANCEL]);

struct Hiera;

impl EncoderFamily for Hiera {
    type Model = Config;

    const MANIFEST: Manifest = Manifest::new("hiera", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .provides(&PROVIDED);

    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)> {
        let published = variants::find(&VARIANTS, &request.model.id)?;
        let precision = request::precision(&request.model)?;
        let path = request.model.config.clone();
        let config = match &path {
            Some(path) => read::<Config>(path)?,
            None => Config::published(published),
        };
        let requested = request.image_size.map(|size| size as usize);
        in_file(path.as_deref(), config.check())?;
        config.check_clips(request.num_frames as usize, requested)?;
        let ([times, rows, columns], width) = (config.tokens(), config.embed_dim());
        let positions = ["pos_embed", "pos_embed_spatial", "pos_embed_temporal"];
        let nested = positions.map(|name| format!("{STATE}.{name}"));
        let counts = [times * rows * columns, rows * columns, times];
        let shapes = counts.map(|count| [1, count, width]);
        let names: [_; 3] = std::array::from_fn(|i| [positions[i], nested[i].as_str()]);
        let keys = "`input_size`, `patch_stride` and `embed_dim`";
        let telling: [weights::Telling<'_>; 3] =
            std::array::from_fn(|i| (names[i].as_slice(), shapes[i].as_slice(), keys));
        weights::agree(&request.model.weights, &telling)?;
        let clips = request.num_frames / config.frames() as u32;
        let [times, rows, columns] = config.last_map();
        let image_size = config.image_size() as u32;
        // MERV scales the short side to 256 for crops of 224.
        let preprocess = PreprocessSpec::new(image_size)
            .short_side(image_size * 256 / 224)
            .normalise([0.45; 3], [0.225; 3]);
        let grid = [clips * times as u32, (rows * columns) as u32];
        let macs = config.macs().saturating_mul(u64::from(clips));
        let info = EncoderInfo::new(config.width() as u32, request.num_frames, grid, preprocess)
            .dtype(precision.dtype())
            .cost(config.parameters(), macs);
        Ok((config, info))
    }

    fn load(config: Self::Model, info: EncoderInfo, paths: &[PathBuf]) -> Result<EncoderObject> {
        let bare = UNUSED.iter().chain([&FUSION_HEADS]);
        let nested: Vec<_> = bare.clone().map(|name| format!("{STATE}.{name}")).collect();
        let unused: Vec<_> = bare
            .copied()
            .chain(nested.iter().map(String::as_str))
            .collect();
        let model = weights::load(paths, &unused, |scope| {
            let is_nested = scope.contains(&format!("{STATE}.patch_embed.proj.weight"));
            let scope = if is_nested { scope.pp(STATE) } else { scope };
            let scope = scope.in_precision(Precision::of(info.dtype));
            model::Hiera::new(config, info, &scope)
        })?;
        Ok(EncoderObject::new(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<Hiera>);
