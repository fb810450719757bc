//! ViViT (arXiv 2103.15691): the ids of the encoders, and the sizes in Hugging Face's `config.json` (`VivitConfig`).

use crate::{
    Result,
    activation::Activation,
    config::{
        CHANNELS, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, colour, heads_divide, in_file,
        only_size, read, require, within,
    },
    request,
    variants::{self, Variant},
    weights,
};
use merv_plugin_api::{EncoderInfo, EncoderRequest, PreprocessSpec};
use serde::Deserialize;

/// The other tensors of the files: the classifier.
pub const UNUSED: &[&str] = &["classifier."];

/// Returns the prefix of the model's tensors: the files of the classifier have one. `contains` tells whether they have a
/// tensor.
pub fn root(contains: impl Fn(&str) -> bool) -> Option<&'static str> {
    (!contains("embeddings.cls_token")).then_some("vivit")
}

/// The tokens of a clip that become features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipTokens {
    /// The tubelets.
    NoClass,
    /// The tubelets of every second time step.
    EverySecond,
    /// The class token, followed by the tubelets.
    All,
    /// Only the class token.
    Class,
}

/// MERV's ids. The single class token of a clip comes first, so `all-tokens` and `classemb-at-first` are the
/// same.
pub const VARIANTS: [Variant<ClipTokens>; 5] = [
    variant("vivit-google-b-cls-token", ClipTokens::Class),
    variant("vivit-google-b-all-tokens", ClipTokens::All),
    variant("vivit-google-b-all-no-cls", ClipTokens::EverySecond),
    variant("vivit-google-b-all-no-cls-16frames", ClipTokens::NoClass),
    variant("vivit-google-b-classemb-at-first-16frames", ClipTokens::All),
];

const fn variant(id: &'static str, model: ClipTokens) -> Variant<ClipTokens> {
    Variant {
        id,
        license: "MIT (google/vivit-b-16x2-kinetics400)",
        model,
    }
}

/// Determines the sizes of the encoder that is requested, and its description.
///
/// # Errors
///
/// When the id is unknown, the config file cannot be read, or the request or the weights do not fit the model.
pub fn describe(request: &EncoderRequest) -> Result<((Config, ClipTokens), EncoderInfo)> {
    let tokens = *variants::find(&VARIANTS, &request.model.id)?;
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
        .cost(config.parameters(), config.macs());
    Ok(((config, tokens), info))
}

/// The sizes, with Hugging Face's names.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// The architecture.
    pub model_type: Option<String>,
    /// The number of colour channels.
    #[serde(default = "three")]
    pub num_channels: usize,
    /// D: the width.
    pub hidden_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of attention heads.
    pub num_attention_heads: usize,
    /// The width of the MLP.
    pub intermediate_size: usize,
    /// Frames, height and width of a tubelet.
    pub tubelet_size: [usize; 3],
    /// Height and width of a frame, in pixels.
    pub image_size: usize,
    /// The number of frames in a clip.
    pub num_frames: usize,
    /// The activation of the MLP.
    pub hidden_act: Activation,
    /// The epsilon of the norms.
    pub layer_norm_eps: f64,
    /// Whether queries, keys and values have biases.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
}

fn three() -> usize {
    CHANNELS
}

fn yes() -> bool {
    true
}

impl Config {
    /// Returns the config of `google/vivit-b-16x2-kinetics400`.
    fn published() -> Self {
        Self {
            model_type: None,
            num_channels: three(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            tubelet_size: [2, 16, 16],
            image_size: 224,
            num_frames: 32,
            hidden_act: Activation::GeluTanh,
            layer_norm_eps: 1e-6,
            qkv_bias: true,
        }
    }

    /// Checks the config.
    ///
    /// # Errors
    ///
    /// When a size is out of range, the heads do not divide the width, tubelets are not square or do not
    /// divide the clip, or the config is for another architecture.
    pub fn check(&self) -> Result<()> {
        require(
            self.model_type
                .as_deref()
                .is_none_or(|name| name == "vivit"),
            || {
                format!(
                    "expected `model_type` to be `vivit`, found {:?}",
                    self.model_type.as_deref().unwrap_or_default()
                )
            },
        )?;
        colour(self.num_channels)?;
        let [tubelet, patch, width] = self.tubelet_size;
        within(
            MAX_SIZE,
            &[
                ("hidden_size", self.hidden_size),
                ("num_attention_heads", self.num_attention_heads),
                ("intermediate_size", self.intermediate_size),
                ("num_frames", self.num_frames),
                ("tubelet_size", tubelet),
            ],
        )?;
        within(
            MAX_IMAGE,
            &[("tubelet_size", patch), ("image_size", self.image_size)],
        )?;
        within(MAX_LAYERS, &[("num_hidden_layers", self.num_hidden_layers)])?;
        require(patch == width, || {
            format!("expected square tubelets, found {:?}", self.tubelet_size)
        })?;
        heads_divide(self.num_attention_heads, self.hidden_size)?;
        require(
            self.num_frames.is_multiple_of(tubelet) && self.image_size >= patch,
            || {
                format!(
                    "{} frames of {} pixels cannot be divided into tubelets of {:?}",
                    self.num_frames, self.image_size, self.tubelet_size
                )
            },
        )
    }

    /// Checks the requested clips.
    ///
    /// # Errors
    ///
    /// When another number of frames or image size is requested than the one that the positions were learned
    /// for.
    pub fn check_clips(&self, num_frames: usize, image_size: Option<usize>) -> Result<()> {
        request::fits(
            num_frames == self.num_frames,
            "num_frames",
            num_frames,
            || {
                format!(
                    "{}, for which the model's positions were learned",
                    self.num_frames
                )
            },
        )?;
        only_size(self.image_size, image_size)
    }

    /// Returns T, the number of time steps.
    pub fn temporal(&self) -> usize {
        self.num_frames / self.tubelet_size[0]
    }

    /// Returns S, the number of tubelets per time step.
    pub fn spatial(&self) -> usize {
        (self.image_size / self.tubelet_size[1]).pow(2)
    }

    /// Returns the number of tokens: the class token and the tubelets.
    pub fn tokens(&self) -> usize {
        1 + self.temporal() * self.spatial()
    }

    /// Returns the number of time steps of the features and the number of features per time step. Features
    /// that include the class token cannot be divided into time steps and count as one.
    pub fn shape(&self, tokens: ClipTokens) -> (usize, usize) {
        match tokens {
            ClipTokens::NoClass => (self.temporal(), self.spatial()),
            ClipTokens::EverySecond => (self.temporal().div_ceil(2), self.spatial()),
            ClipTokens::All => (1, self.tokens()),
            ClipTokens::Class => (1, 1),
        }
    }

    fn kernel(&self) -> usize {
        3 * self.tubelet_size.iter().product::<usize>()
    }

    /// Returns the width, the width of the MLP, and the numbers of tokens, weights per tubelet and layers.
    fn sizes(&self) -> [u128; 5] {
        [
            self.hidden_size,
            self.intermediate_size,
            self.tokens(),
            self.kernel(),
            self.num_hidden_layers,
        ]
        .map(|size| size as u128)
    }

    /// Returns the number of parameters, without the classification head.
    pub fn parameters(&self) -> u64 {
        let [d, h, n, kernel, layers] = self.sizes();
        let qkv_bias = if self.qkv_bias { 3 * d } else { 0 };
        let layer = 4 * d * d + d + qkv_bias + 2 * d * h + h + d + 4 * d;
        clamped(kernel * d + 2 * d + n * d + layers * layer + 2 * d)
    }

    /// Returns the multiply-accumulate operations for one clip.
    pub fn macs(&self) -> u64 {
        let [d, h, n, kernel, layers] = self.sizes();
        let layer = n * (4 * d * d + 2 * d * h) + 2 * n * n * d;
        clamped((n - 1) * kernel * d + layers * layer)
    }
}
