//! The vision transformer that a request selects, from timm's `config.json`, the weights and the request.

use super::{
    arguments::Arguments,
    config::{OPEN_CLIP, POSITIONS, Pool, VitConfig, VitFeatures, VitVariant},
};
use crate::{
    Result,
    config::{self, MAX_IMAGE, require},
    request, weights,
};
use merv_plugin_api::{EncoderInfo, EncoderRequest, Interpolation, PluginError, PreprocessSpec};
use serde::Deserialize;
use std::path::PathBuf;

/// The image size at which MERV runs every encoder, in pixels.
const MERV_IMAGE_SIZE: usize = 224;

/// timm's `config.json`: an architecture, arguments that override its own, and the preprocessing that the
/// weights expect.
#[derive(Debug, Default, Deserialize)]
pub struct TimmConfig {
    /// The name of the architecture.
    pub architecture: String,
    /// How an image becomes one vector, if it differs from the architecture.
    pub global_pool: Option<String>,
    /// Arguments that override those of the architecture.
    #[serde(default)]
    pub model_args: Arguments,
    /// The preprocessing that the weights were trained with.
    pub pretrained_cfg: Option<PretrainedConfig>,
    /// Older files have the keys of `pretrained_cfg` at the top level.
    #[serde(flatten)]
    older: PretrainedConfig,
}

/// The preprocessing that the weights were trained with (timm's `PretrainedCfg`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PretrainedConfig {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
}

/// The vision transformer that a request selects.
#[derive(Debug, Clone, PartialEq)]
pub struct TimmModel {
    /// The sizes.
    pub sizes: VitConfig,
    /// The height and width of its input frames, in pixels.
    pub image_size: usize,
    /// Subtracted from each channel.
    pub mean: [f32; 3],
    /// Each channel is then divided by this.
    pub std: [f32; 3],
    /// How frames are resized.
    pub interpolation: Interpolation,
}

/// Determines the sizes of a timm model, its image size, and its preprocessing.
///
/// The sizes come from the config file, or from the variant's architecture if there is no config file. The
/// grid of the positions comes from the weights, if they are there. The image size is the requested one, else
/// `img_size` of the config file, else 224 as in MERV. `mean` and `std` apply unless the config file states
/// others.
///
/// # Errors
///
/// When the config file cannot be read, when its architecture is not in `architectures`, when its arguments
/// make an invalid or unsupported model, and when the request does not fit the model.
pub fn resolve(
    request: &EncoderRequest,
    architectures: &[(&str, VitConfig)],
    variant: &VitVariant,
    [mean, std]: [[f32; 3]; 2],
) -> Result<TimmModel> {
    let path = request.model.config.clone();
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
        image_size: match (request.image_size, &timm.model_args.get("img_size")) {
            (Some(requested), _) => requested as usize,
            (None, Some(size)) if !size.is_null() => sizes.img_size,
            (None, _) => MERV_IMAGE_SIZE,
        },
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
        || format!("from {} pixels (one patch) to {MAX_IMAGE}", sides.start()),
    )?;
    let paths = request.model.weights.clone();
    if !paths.is_empty()
        && let Some(positions) = stored_positions(&paths)?
    {
        found.sizes = found.sizes.at_stored_size(&positions)?;
    }
    Ok(found)
}

impl TimmModel {
    /// Describes the encoder that takes `features` from the model.
    pub fn describe(&self, features: VitFeatures, num_frames: u32) -> EncoderInfo {
        let (config, image_size) = (&self.sizes, self.image_size);
        let patches = config.grid(image_size).pow(2);
        let (temporal, spatial) = features.choice().shape(num_frames as usize, patches);
        let preprocess = PreprocessSpec::new(image_size as u32)
            .interpolation(self.interpolation)
            .normalise(self.mean, self.std);
        let macs = u64::from(num_frames).saturating_mul(config.macs(image_size, features));
        EncoderInfo::new(
            config.embed_dim as u32,
            num_frames,
            [temporal, spatial],
            preprocess,
        )
        .cost(config.parameters(features), macs)
    }
}

/// Returns the shape of the position embeddings in a file of timm or open_clip.
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
            "its architecture is `{}`; this plugin supports {}",
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
            "expected `class_token` to be true, because the features of this id include the class token"
                .into()
        },
    )?;
    Ok(sizes)
}

impl PretrainedConfig {
    /// Returns how frames are resized: bicubic by default.
    fn interpolation(&self) -> Result<Interpolation> {
        match self.interpolation.as_deref() {
            None | Some("bicubic") => Ok(Interpolation::BICUBIC),
            Some("bilinear") => Ok(Interpolation::BILINEAR),
            Some(other) => Err(PluginError::weights(format!(
                "expected `interpolation` to be `bicubic` or `bilinear`, found `{other}`"
            ))),
        }
    }
}
