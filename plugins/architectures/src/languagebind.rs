//! LanguageBind (arXiv 2310.01852): the ids of the encoders, and the sizes of the video tower, `vision_config` in Hugging
//! Face's `config.json`.

use crate::{
    Result,
    activation::Activation,
    config::{
        CHANNELS, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, colour, heads_divide, in_file,
        only_size, read, require, within,
    },
    frame_tokens::FrameTokens,
    request,
    variants::{self, Variant},
    weights,
};
use merv_plugin_api::{EncoderInfo, EncoderRequest, PreprocessSpec, ResizeDomain};
use serde::Deserialize;

/// The prefixes that the layers can have below `vision_model`. The second one is that of files in which peft has wrapped the
/// encoder.
const LAYERS: [&str; 2] = ["encoder.layers", "encoder.base_model.model.layers"];

/// The layer that an adapter changes, in files of newer versions of peft.
pub const BASE_LAYER: &str = "base_layer";

/// The two weights of a low-rank adapter (LoRA, arXiv 2106.09685), with the names that peft uses.
pub const ADAPTER: [&str; 2] = ["lora_A.default.weight", "lora_B.default.weight"];

/// OpenAI CLIP's mean and standard deviation.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Returns the prefix of the layers. `contains` tells whether the files have a tensor below `vision_model`.
pub fn layers(contains: impl Fn(&str) -> bool) -> &'static str {
    let [plain, adapted] = LAYERS;
    match contains(&format!("{adapted}.0.layer_norm1.weight")) {
        true => adapted,
        false => plain,
    }
}

/// Returns the other tensors of the files: the text tower, the projections into the shared space, and the last layer.
pub fn unused(config: &Config) -> Vec<String> {
    let last = LAYERS.map(|layers| format!("vision_model.{layers}.{}.", config.used_layers()));
    let others = [
        "text_model.",
        "visual_projection.",
        "text_projection.",
        "logit_scale",
        "vision_model.post_layernorm.",
    ];
    others.map(str::to_owned).into_iter().chain(last).collect()
}

/// MERV's ids.
pub const VARIANTS: [Variant<FrameTokens>; 5] = [
    variant("languagebind-video", FrameTokens::All),
    variant("languagebind-video-averagetoken", FrameTokens::Mean),
    variant("languagebind-video-classemb", FrameTokens::Class),
    variant("languagebind-video-noclass", FrameTokens::Patches),
    variant(
        "languagebind-video-classemb-at-first",
        FrameTokens::MeanClassFirst,
    ),
];

const fn variant(id: &'static str, model: FrameTokens) -> Variant<FrameTokens> {
    Variant {
        id,
        license: "MIT (LanguageBind/LanguageBind_Video_merge)",
        model,
    }
}

/// Determines the sizes of the encoder that is requested, and its description.
///
/// # Errors
///
/// When the id is unknown, the config file cannot be read, or the request or the weights do not fit the model.
pub fn describe(request: &EncoderRequest) -> Result<((Config, FrameTokens), EncoderInfo)> {
    let choice = *variants::find(&VARIANTS, &request.model.id)?;
    let path = request.model.config.clone();
    let config = match &path {
        Some(path) => read::<ConfigFile>(path)?.vision_config,
        None => Config::published(),
    };
    let requested = request.image_size.map(|size| size as usize);
    in_file(path.as_deref(), config.check())?;
    config.check_clips(request.num_frames as usize, requested)?;
    let width = config.hidden_size;
    let temporal_names = LAYERS.map(|layers| format!("vision_model.{layers}.0.temporal_embedding"));
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
        .cost(config.parameters(), macs);
    Ok(((config, choice), info))
}

/// The config file. The config of the text tower is ignored.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    /// The config of the video tower.
    vision_config: Config,
}

/// The sizes of the video tower, with the names of `CLIPVisionConfig` and LanguageBind's additions.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// D: the width.
    pub hidden_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of attention heads.
    pub num_attention_heads: usize,
    /// The width of the MLP.
    pub intermediate_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
    /// Height and width of a frame, in pixels.
    pub image_size: usize,
    /// t: the number of frames that attend to each other.
    pub num_frames: usize,
    /// The number of colour channels.
    #[serde(default = "three")]
    pub num_channels: usize,
    /// The activation of the MLP.
    pub hidden_act: Activation,
    /// The epsilon of the norms.
    pub layer_norm_eps: f64,
    /// Whether layers attend over time, as in MERV's LanguageBind.
    pub add_time_attn: bool,
    /// The scale of the low-rank adapters times their rank, for files in which they are not merged.
    #[serde(default = "lora_alpha")]
    pub lora_alpha: f64,
}

fn three() -> usize {
    CHANNELS
}

/// The value in the published files and the default of LanguageBind.
fn lora_alpha() -> f64 {
    16.0
}

impl Config {
    /// Returns the config of `LanguageBind/LanguageBind_Video_merge`: CLIP ViT-L/14 with temporal attention
    /// over 8 frames.
    pub fn published() -> Self {
        Self {
            hidden_size: 1024,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            intermediate_size: 4096,
            patch_size: 14,
            image_size: 224,
            num_frames: 8,
            num_channels: three(),
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
            add_time_attn: true,
            lora_alpha: lora_alpha(),
        }
    }

    /// Checks the config.
    ///
    /// # Errors
    ///
    /// When a size is out of range, the heads do not divide the width, temporal attention is missing, or the
    /// number of channels is not three.
    pub fn check(&self) -> Result<()> {
        colour(self.num_channels)?;
        within(
            MAX_SIZE,
            &[
                ("hidden_size", self.hidden_size),
                ("num_attention_heads", self.num_attention_heads),
                ("intermediate_size", self.intermediate_size),
                ("num_frames", self.num_frames),
            ],
        )?;
        within(
            MAX_IMAGE,
            &[
                ("patch_size", self.patch_size),
                ("image_size", self.image_size),
            ],
        )?;
        within(MAX_LAYERS, &[("num_hidden_layers", self.num_hidden_layers)])?;
        require(self.num_hidden_layers >= 2, || {
            "expected at least 2 layers: the features are the output of the second-to-last layer"
                .into()
        })?;
        require(self.add_time_attn, || {
            "expected `add_time_attn` to be true: the video tower, not the image tower".to_owned()
        })?;
        heads_divide(self.num_attention_heads, self.hidden_size)?;
        require(self.image_size >= self.patch_size, || {
            format!(
                "frames of {} pixels are smaller than a patch",
                self.image_size
            )
        })?;
        Ok(())
    }

    /// Checks the requested clips.
    ///
    /// # Errors
    ///
    /// When the frames cannot be divided into groups, or another image size is requested than the one that
    /// the positions were learned for.
    pub fn check_clips(&self, num_frames: usize, image_size: Option<usize>) -> Result<()> {
        let whole = num_frames > 0 && num_frames.is_multiple_of(self.num_frames);
        request::fits(whole, "num_frames", num_frames, || {
            format!(
                "a multiple of {}, the number of frames that attend to each other",
                self.num_frames
            )
        })?;
        only_size(self.image_size, image_size)
    }

    /// Returns the number of patches along one side of a frame.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Returns the number of tokens of a frame: the class token and the patches.
    pub fn tokens(&self) -> usize {
        1 + self.grid().pow(2)
    }

    /// Returns the number of layers that are used: all but the last.
    pub fn used_layers(&self) -> usize {
        self.num_hidden_layers - 1
    }

    /// Returns the number of parameters of the embedding and the used layers.
    pub fn parameters(&self) -> u64 {
        let fixed = 3 * self.patch_size.pow(2) + self.tokens() + 3;
        let sizes = [
            self.hidden_size,
            self.intermediate_size,
            self.num_frames,
            fixed,
        ];
        let [d, h, t, fixed] = sizes.map(|size| size as u128);
        let layer = 8 * d * d + 8 * d + 2 * d * h + h + d + 6 * d + t * d;
        clamped(fixed * d + self.used_layers() as u128 * layer)
    }

    /// Returns the multiply-accumulate operations for one frame.
    pub fn macs_per_frame(&self) -> u64 {
        let kernel = 3 * self.patch_size.pow(2);
        let sizes = [
            self.hidden_size,
            self.intermediate_size,
            self.num_frames,
            self.tokens(),
            kernel,
        ];
        let [d, h, t, n, kernel] = sizes.map(|size| size as u128);
        let layer = n * (8 * d * d + 2 * d * h) + 2 * n * n * d + 2 * n * t * d;
        clamped((n - 1) * kernel * d + self.used_layers() as u128 * layer)
    }
}
