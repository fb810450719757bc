//! Hiera for video (arXiv 2306.00989): the ids of the encoders, the sizes of the models, and the order of their tokens.

mod config;
mod mask_units;

pub use config::{BlockPlan, Config, Size, VARIANTS};
pub use mask_units::order;

use crate::{
    Result,
    config::{in_file, read},
    variants, weights,
};
use merv_plugin_api::{EncoderInfo, EncoderRequest, PreprocessSpec};

/// The epsilon of the norms.
pub const EPSILON: f64 = 1e-6;

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

/// Returns the tensors that the files may have although the features do not need them.
pub fn unused() -> Vec<String> {
    let bare = UNUSED.iter().chain([&FUSION_HEADS]);
    let nested = bare.clone().map(|name| format!("{STATE}.{name}"));
    bare.map(ToString::to_string).chain(nested).collect()
}

/// Returns the prefix of the model's tensors, if the files have one. `contains` tells whether they have a tensor.
pub fn root(contains: impl Fn(&str) -> bool) -> Option<&'static str> {
    contains(&format!("{STATE}.patch_embed.proj.weight")).then_some(STATE)
}

/// Determines the sizes of the encoder that is requested, and its description.
///
/// # Errors
///
/// When the id is unknown, the config file cannot be read, or the request or the weights do not fit the model.
pub fn describe(request: &EncoderRequest) -> Result<(Config, EncoderInfo)> {
    let published = variants::find(&VARIANTS, &request.model.id)?;
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
        .cost(config.parameters(), macs);
    Ok((config, info))
}
