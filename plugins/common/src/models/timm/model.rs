//! Which vision transformer a request means: timm's `config.json`, the weights, and what was asked for.

use super::{
    arguments::Arguments,
    config::{OPEN_CLIP, POSITIONS, Pool, VitConfig, VitFeatures, VitVariant},
};
use crate::{
    Result,
    config::{self, MAX_IMAGE, require},
    precision::Precision,
    request, weights,
};
use merv_plugin_api::{EncoderRequest, Interpolation, PluginError};
use serde::Deserialize;
use std::path::PathBuf;

/// The image size at which MERV runs every encoder, in pixels.
const MERV_IMAGE_SIZE: usize = 224;

/// timm's `config.json`: an architecture, arguments that override its own, and the pixels that the weights
/// expect.
#[derive(Debug, Default, Deserialize)]
pub struct TimmConfig {
    /// The name of the architecture.
    pub architecture: String,
    /// How an image becomes one vector, if not as the architecture has it.
    pub global_pool: Option<String>,
    /// Overrides.
    #[serde(default)]
    pub model_args: Arguments,
    /// What the weights were trained with.
    pub pretrained_cfg: Option<PretrainedConfig>,
    /// Older files have no `pretrained_cfg`, and its keys beside the architecture.
    #[serde(flatten)]
    older: PretrainedConfig,
}

/// How the pixels were prepared that the weights were trained on (timm's `PretrainedCfg`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PretrainedConfig {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
}

/// What a plugin makes of a request for a vision transformer of timm's.
#[derive(Debug, Clone, PartialEq)]
pub struct TimmModel {
    /// Its sizes.
    pub sizes: VitConfig,
    /// Height and width of the frames it gets, in pixels.
    pub image_size: usize,
    /// What it computes in.
    pub precision: Precision,
    /// Subtracted from each channel.
    pub mean: [f32; 3],
    /// Then each channel is divided by this.
    pub std: [f32; 3],
    /// How frames are resized.
    pub interpolation: Interpolation,
}

/// Finds the sizes of a timm model, the image size to run it at, what it computes in, and the pixels it
/// expects.
///
/// Sizes come from the config file, if there is one, else they are those of the variant's architecture; the
/// grid of the positions comes from the weights, if they are there. The image size is the one asked for,
/// else the config file's `img_size`, else MERV's 224. `mean` and `std` hold where the config file does not
/// state others.
///
/// # Errors
///
/// When the config file cannot be read, names an architecture that is not in `architectures`, or arguments
/// that make no model or one that is not built here; and when the request does not fit the model.
pub fn resolve(
    request: &EncoderRequest,
    architectures: &[(&str, VitConfig)],
    variant: &VitVariant,
    [mean, std]: [[f32; 3]; 2],
) -> Result<TimmModel> {
    let precision = request::precision(&request.model)?;
    let path = request::config(&request.model);
    let timm = match &path {
        Some(path) => config::read::<TimmConfig>(path)?,
        None => TimmConfig {
            architecture: variant.architecture.to_owned(),
            ..TimmConfig::default()
        },
    };
    let pixels = timm.pretrained_cfg.as_ref().unwrap_or(&timm.older);
    let fits = |result| config::in_file(path.as_deref(), result);
    let sizes = fits(sizes_of(&timm, architectures, variant.features))?;
    let mut found = TimmModel {
        image_size: match (
            request.image_size.into_option(),
            &timm.model_args.get("img_size"),
        ) {
            (Some(asked), _) => asked as usize,
            (None, Some(size)) if !size.is_null() => sizes.img_size,
            (None, _) => MERV_IMAGE_SIZE,
        },
        precision,
        mean: pixels.mean.unwrap_or(mean),
        std: pixels.std.unwrap_or(std),
        interpolation: config::in_file(path.as_deref(), pixels.interpolation())?,
        sizes,
    };
    let usable = found.mean.iter().all(|x| x.is_finite()) && found.std.iter().all(|x| *x > 0.0);
    config::in_file(
        path.as_deref(),
        require(usable, || {
            "expected a finite `mean` and a positive `std` for each channel".into()
        }),
    )?;
    request::fits(
        request.num_frames > 0,
        "num_frames",
        request.num_frames,
        || "at least 1".to_owned(),
    )?;
    let sides = found.sizes.patch_size..=MAX_IMAGE;
    request::fits(
        sides.contains(&found.image_size),
        "image_size",
        found.image_size,
        || format!("from {} pixels, a patch, to {MAX_IMAGE}", sides.start()),
    )?;
    let paths = request::weights(&request.model);
    if !paths.is_empty()
        && let Some(positions) = stored_positions(&paths)?
    {
        found.sizes = found.sizes.at_stored_size(&positions)?;
    }
    Ok(found)
}

/// The shape of the position embeddings in a file of timm's or open_clip's.
fn stored_positions(paths: &[PathBuf]) -> Result<Option<Vec<usize>>> {
    let checkpoint = weights::open(paths, |name| Some(name.to_owned()))?;
    let prefixes = ["", OPEN_CLIP];
    let found = prefixes
        .iter()
        .find_map(|prefix| checkpoint.get(&format!("{prefix}{POSITIONS}")));
    Ok(found.map(|tensor| tensor.shape.clone()))
}

fn sizes_of(
    timm: &TimmConfig,
    architectures: &[(&str, VitConfig)],
    features: VitFeatures,
) -> Result<VitConfig> {
    let named = |(name, _): &&(&str, VitConfig)| *name == timm.architecture;
    let Some((_, known)) = architectures.iter().find(named) else {
        let names: Vec<_> = architectures.iter().map(|(name, _)| *name).collect();
        return Err(PluginError::weights(format!(
            "it names the architecture `{}`; this plugin knows {}",
            timm.architecture,
            names.join(", ")
        )));
    };
    let pooled = features == VitFeatures::Pooled;
    let sizes = known.clone().with(&timm.model_args, pooled)?;
    sizes.check()?;
    if !timm.model_args.contains_key("global_pool")
        && let (true, Some(found)) = (pooled, &timm.global_pool)
    {
        let expected = sizes.pool.name();
        require(found == expected, || {
            format!("expected `global_pool` to be `{expected}`, found `{found}`")
        })?;
    }
    let has_class = sizes.class_token || !features.needs_class();
    require(
        has_class && (sizes.class_token || !pooled || sizes.pool != Pool::Token),
        || {
            "expected `class_token` to be true: the features of this id are made of the class token"
                .into()
        },
    )?;
    Ok(sizes)
}

impl PretrainedConfig {
    /// How frames are resized: bicubically unless it says otherwise.
    fn interpolation(&self) -> Result<Interpolation> {
        match self.interpolation.as_deref() {
            None | Some("bicubic") => Ok(Interpolation::Bicubic),
            Some("bilinear") => Ok(Interpolation::Bilinear),
            Some(other) => Err(PluginError::weights(format!(
                "expected `interpolation` to be `bicubic` or `bilinear`, found `{other}`"
            ))),
        }
    }
}
