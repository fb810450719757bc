//! timm's way of saying which vision transformer it is: `config.json` with an architecture and arguments
//! that override its sizes.

use crate::{
    Result,
    config::{self, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, heads_divide, require, within},
    frame_tokens::FrameTokens,
    patch::CHANNELS,
    precision::Precision,
    request,
};
use merv_plugin_api::{EncoderRequest, PluginError};
use serde::Deserialize;

/// The image size at which MERV runs every encoder, in pixels.
const MERV_IMAGE_SIZE: usize = 224;

/// How timm makes one vector of an image's tokens (`global_pool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Token,
    /// [`AttentionPool`](crate::attention_pool::AttentionPool).
    Map,
}

impl Pool {
    /// timm's name.
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Map => "map",
        }
    }
}

/// What an encoder takes from a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VitFeatures {
    /// Tokens of the last block but one, without the final norm.
    Tokens(FrameTokens),
    /// One vector a frame: all blocks, the final norm, and the model's own [`Pool`].
    Pooled,
}

impl VitFeatures {
    /// Blocks that they need.
    pub fn blocks(self, config: &VitConfig) -> usize {
        config.depth - usize::from(self != Self::Pooled)
    }

    /// Which tokens become features; the pooled vector is the only token of its frame.
    pub fn choice(self) -> FrameTokens {
        match self {
            Self::Tokens(choice) => choice,
            Self::Pooled => FrameTokens::Class,
        }
    }
}

/// Which encoder an id stands for.
#[derive(Debug, Clone, Copy)]
pub struct VitVariant {
    /// timm's architecture, whose sizes hold without a config file.
    pub architecture: &'static str,
    /// What becomes of its tokens.
    pub features: VitFeatures,
}

/// The sizes of a vision transformer, by timm's names.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Height and width the weights were trained at, in pixels.
    pub img_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
    /// D: the width.
    pub embed_dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the perceptron over the width of the model.
    pub mlp_ratio: f64,
    /// Whether there is a class token (`cls_token`), without a position.
    pub class_token: bool,
    /// Register tokens (arXiv 2309.16588).
    pub reg_tokens: usize,
    /// Whether branches are scaled (`ls1.gamma`, `ls2.gamma`).
    pub layer_scale: bool,
    /// How an image becomes one vector.
    pub pool: Pool,
}

/// timm's `config.json`: an architecture, and arguments that override its sizes.
#[derive(Debug, Deserialize)]
pub struct TimmConfig {
    /// The name of the architecture.
    pub architecture: String,
    /// How an image becomes one vector, if not as the architecture has it.
    pub global_pool: Option<String>,
    /// Overrides.
    #[serde(default)]
    pub model_args: TimmArgs,
}

/// The arguments of timm's model that change sizes. Another one is an error: it would change the model.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimmArgs {
    img_size: Option<usize>,
    patch_size: Option<usize>,
    embed_dim: Option<usize>,
    depth: Option<usize>,
    num_heads: Option<usize>,
    mlp_ratio: Option<f64>,
    reg_tokens: Option<usize>,
    no_embed_class: Option<bool>,
    /// Its value only initialises training; that there is one is part of the architecture.
    #[serde(rename = "init_values")]
    _init_values: Option<f64>,
}

impl VitConfig {
    /// This architecture with `args` applied.
    #[must_use]
    pub fn with(mut self, args: &TimmArgs) -> Self {
        self.img_size = args.img_size.unwrap_or(self.img_size);
        self.patch_size = args.patch_size.unwrap_or(self.patch_size);
        self.embed_dim = args.embed_dim.unwrap_or(self.embed_dim);
        self.depth = args.depth.unwrap_or(self.depth);
        self.num_heads = args.num_heads.unwrap_or(self.num_heads);
        self.mlp_ratio = args.mlp_ratio.unwrap_or(self.mlp_ratio);
        self.reg_tokens = args.reg_tokens.unwrap_or(self.reg_tokens);
        self
    }

    /// Refuses sizes that make no model.
    ///
    /// # Errors
    ///
    /// When a size is zero, heads do not divide the width, or `image_size` is smaller than a patch.
    pub fn check(&self, image_size: usize) -> Result<()> {
        within(
            MAX_SIZE,
            &[("embed_dim", self.embed_dim), ("num_heads", self.num_heads)],
        )?;
        within(
            MAX_IMAGE,
            &[
                ("patch_size", self.patch_size),
                ("img_size", self.img_size),
                ("image_size", image_size),
            ],
        )?;
        within(MAX_LAYERS, &[("depth", self.depth)])?;
        require(self.depth >= 2, || {
            "expected `depth` of at least 2: the features are those of the last block but one"
                .into()
        })?;
        require(self.reg_tokens <= MAX_SIZE, || {
            format!(
                "expected `reg_tokens` up to {MAX_SIZE}, found {}",
                self.reg_tokens
            )
        })?;
        require((1..=MAX_SIZE).contains(&self.hidden()), || {
            format!(
                "expected a perceptron of positive width, found `mlp_ratio` {}",
                self.mlp_ratio
            )
        })?;
        heads_divide(self.num_heads, self.embed_dim)?;
        require(
            image_size >= self.patch_size && self.img_size >= self.patch_size,
            || {
                format!(
                    "images of {image_size} pixels are smaller than a patch of {}",
                    self.patch_size
                )
            },
        )
    }

    /// Patches along one side of an image.
    pub fn grid(&self, image_size: usize) -> usize {
        image_size / self.patch_size
    }

    /// Tokens before the patches: class and registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.reg_tokens
    }

    /// Width of the perceptron.
    pub fn hidden(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// Parameters that take part in computing `features`.
    pub fn parameters(&self, features: VitFeatures) -> u64 {
        let kernel = CHANNELS * self.patch_size.pow(2);
        let fixed = self.grid(self.img_size).pow(2) + self.prefix();
        let blocks = features.blocks(self);
        let sizes = [self.embed_dim, self.hidden(), kernel, fixed, blocks];
        let [d, h, kernel, fixed, blocks] = sizes.map(|size| size as u128);
        let scales = if self.layer_scale { 2 * d } else { 0 };
        // Attention and perceptron, with biases.
        let branches = 4 * d * d + 4 * d + 2 * d * h + h + d;
        let block = branches + 4 * d + scales;
        let head = match (features, self.pool) {
            (VitFeatures::Tokens(_), _) => 0,
            (VitFeatures::Pooled, Pool::Token) => 2 * d,
            // Besides the final norm: the latent, and a norm of its own.
            (VitFeatures::Pooled, Pool::Map) => 2 * d + branches + 3 * d,
        };
        clamped(kernel * d + d + fixed * d + blocks * block + head)
    }

    /// Multiply-accumulates of `features` for one frame.
    pub fn macs(&self, image_size: usize, features: VitFeatures) -> u64 {
        let kernel = CHANNELS * self.patch_size.pow(2);
        let patches = self.grid(image_size).pow(2);
        let tokens = patches + self.prefix();
        let sizes = [
            self.embed_dim,
            self.hidden(),
            kernel,
            patches,
            tokens,
            features.blocks(self),
        ];
        let [d, h, kernel, patches, tokens, blocks] = sizes.map(|size| size as u128);
        let block = tokens * (4 * d * d + 2 * d * h) + 2 * tokens * tokens * d;
        let head = match (features, self.pool) {
            (VitFeatures::Pooled, Pool::Map) => {
                2 * tokens * d * d + 2 * tokens * d + 2 * d * d + 2 * d * h
            }
            _ => 0,
        };
        clamped(patches * kernel * d + blocks * block + head)
    }
}

/// Finds the sizes of a timm model, the image size to run it at, and what it computes in.
///
/// Sizes come from the config file, if there is one, else they are those of the variant's architecture.
/// The image size is the one asked for, else the config file's `img_size`, else MERV's 224.
///
/// # Errors
///
/// When the config file cannot be read, names an architecture that is not in `architectures`, or sizes
/// that make no model, or another pooling than the architecture's where it matters.
pub fn resolve(
    request: &EncoderRequest,
    architectures: &[(&str, VitConfig)],
    variant: &VitVariant,
) -> Result<(VitConfig, usize, Precision)> {
    let precision = request::precision(&request.model)?;
    let path = request::config(&request.model);
    let timm = match &path {
        Some(path) => config::read::<TimmConfig>(path)?,
        None => TimmConfig {
            architecture: variant.architecture.to_owned(),
            global_pool: None,
            model_args: TimmArgs::default(),
        },
    };
    let (sizes, image_size) = config::in_file(
        path.as_deref(),
        sizes_of(request, &timm, architectures, variant.features),
    )?;
    Ok((sizes, image_size, precision))
}

fn sizes_of(
    request: &EncoderRequest,
    timm: &TimmConfig,
    architectures: &[(&str, VitConfig)],
    features: VitFeatures,
) -> Result<(VitConfig, usize)> {
    let named = |(name, _): &&(&str, VitConfig)| *name == timm.architecture;
    let Some((_, known)) = architectures.iter().find(named) else {
        let names: Vec<_> = architectures.iter().map(|(name, _)| *name).collect();
        return Err(PluginError::weights(format!(
            "it names the architecture `{}`; this plugin knows {}",
            timm.architecture,
            names.join(", ")
        )));
    };
    let asked = request.image_size.into_option().map(|size| size as usize);
    let image_size = asked
        .or(timm.model_args.img_size)
        .unwrap_or(MERV_IMAGE_SIZE);
    let sizes = known.clone().with(&timm.model_args);
    require(
        timm.model_args.no_embed_class.unwrap_or(true) || !sizes.class_token,
        || {
            "expected `no_embed_class`: a class token with a position of its own is another model"
                .into()
        },
    )?;
    sizes.check(image_size)?;
    if let (VitFeatures::Pooled, Some(found)) = (features, &timm.global_pool) {
        let expected = sizes.pool.name();
        require(found == expected, || {
            format!("expected `global_pool` to be `{expected}`, found `{found}`")
        })?;
    }
    require(request.num_frames > 0, || {
        "expected at least one frame".into()
    })?;
    Ok((sizes, image_size))
}
