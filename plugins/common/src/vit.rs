//! timm's `VisionTransformer` (arXiv 2010.11929; `timm/models/vision_transformer.py`): the trunk of
//! SigLIP and DINOv2.

use crate::{
    Result,
    activation::Activation,
    attention::SelfAttention,
    block::Block,
    config::{self, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, require, within},
    features::encode_in_groups,
    mlp::Mlp,
    norm::LayerNorm,
    patch::{CHANNELS, PatchEmbed},
    position::resample,
    request,
    tensor::from_vec,
    weights::{self, Scope},
};
use candle_core::Tensor;
use merv_plugin_api::{
    DType, Encoder, EncoderInfo, EncoderRequest, Interpolation, PluginError, PreprocessSpec,
    ResizeDomain, TensorBuf, TensorView,
};
use serde::Deserialize;
use std::path::PathBuf;

/// The epsilon of timm's layer norms.
const EPSILON: f64 = 1e-6;

/// The image size at which MERV runs every encoder, in pixels.
const MERV_IMAGE_SIZE: usize = 224;

/// Frames that go through the blocks together: few enough that their activations stay in the cache,
/// enough that the products fill all cores.
const FRAMES_AT_ONCE: usize = 4;

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
}

/// timm's `config.json`: an architecture, and arguments that override its sizes.
#[derive(Debug, Deserialize)]
pub struct TimmConfig {
    /// The name of the architecture.
    pub architecture: String,
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
        require(self.embed_dim.is_multiple_of(self.num_heads), || {
            format!(
                "{} heads do not divide the width {}",
                self.num_heads, self.embed_dim
            )
        })?;
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

    fn hidden(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// Parameters of the embedding and the first `blocks` blocks.
    pub fn parameters(&self, blocks: usize) -> u64 {
        let kernel = CHANNELS * self.patch_size.pow(2);
        let fixed = self.grid(self.img_size).pow(2) + self.prefix();
        let sizes = [self.embed_dim, self.hidden(), kernel, fixed, blocks];
        let [d, h, kernel, fixed, blocks] = sizes.map(|size| size as u128);
        let scales = if self.layer_scale { 2 * d } else { 0 };
        let block = 4 * d * d + 4 * d + 2 * d * h + h + d + 4 * d + scales;
        clamped(kernel * d + d + fixed * d + blocks * block)
    }

    /// Multiply-accumulates for one frame through the first `blocks` blocks.
    pub fn macs(&self, image_size: usize, blocks: usize) -> u64 {
        let kernel = CHANNELS * self.patch_size.pow(2);
        let patches = self.grid(image_size).pow(2);
        let tokens = patches + self.prefix();
        let sizes = [
            self.embed_dim,
            self.hidden(),
            kernel,
            patches,
            tokens,
            blocks,
        ];
        let [d, h, kernel, patches, tokens, blocks] = sizes.map(|size| size as u128);
        let block = tokens * (4 * d * d + 2 * d * h) + 2 * tokens * tokens * d;
        clamped(patches * kernel * d + blocks * block)
    }
}

/// The first blocks of a vision transformer, without the final norm.
pub struct Vit {
    patch_embed: PatchEmbed,
    /// `[grid · grid, width]`, for the image size that was asked for.
    positions: Vec<f32>,
    /// Class and register tokens, `[prefix, width]`.
    prefix: Vec<f32>,
    blocks: Vec<Block>,
    config: VitConfig,
    image_size: usize,
}

impl Vit {
    /// Takes the embedding and the first `blocks` blocks from `scope`, for images of `image_size`.
    ///
    /// # Errors
    ///
    /// When [`VitConfig::check`] does.
    pub fn new(
        config: &VitConfig,
        image_size: usize,
        blocks: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        config.check(image_size)?;
        let d = config.embed_dim;
        let trained = config.grid(config.img_size);
        let positions = scope.vector("pos_embed", &[1, trained * trained, d]);
        let mut prefix = Vec::new();
        if config.class_token {
            prefix.extend(scope.vector("cls_token", &[1, 1, d]));
        }
        if config.reg_tokens > 0 {
            prefix.extend(scope.vector("reg_token", &[1, config.reg_tokens, d]));
        }
        Ok(Self {
            patch_embed: PatchEmbed::new_2d(
                config.patch_size,
                d,
                true,
                &scope.pp("patch_embed.proj"),
            ),
            positions: resample(positions, trained, config.grid(image_size), d),
            prefix,
            blocks: (0..blocks)
                .map(|index| block(config, &scope.pp("blocks").pp(index)))
                .collect::<Result<_>>()?,
            config: config.clone(),
            image_size,
        })
    }

    /// # Shapes
    ///
    /// A slice `[frames, 3, size, size]` → `[frames, prefix + patches, width]`
    ///
    /// # Errors
    ///
    /// When the slice has another length.
    pub fn forward(&self, frames: &[f32]) -> Result<Tensor> {
        let d = self.config.embed_dim;
        let count = frames.len() / (CHANNELS * self.image_size * self.image_size);
        let patches = self.patch_embed.forward(frames, self.image_size)?;
        let tokens = self.positions.len() / d + self.config.prefix();
        let mut x = Vec::with_capacity(count * tokens * d);
        crate::tensor::with_slice(&patches, |patches| {
            for frame in patches.chunks_exact(self.positions.len()) {
                x.extend_from_slice(&self.prefix);
                x.extend(
                    frame
                        .iter()
                        .zip(&self.positions)
                        .map(|(patch, position)| patch + position),
                );
            }
            Ok(())
        })?;
        let mut x = from_vec(x, (count * tokens, d))?;
        for block in &self.blocks {
            x = block.forward(&x, count, tokens)?;
        }
        Ok(x.reshape((count, tokens, d))?)
    }
}

fn block(config: &VitConfig, scope: &Scope<'_>) -> Result<Block> {
    let d = config.embed_dim;
    let scale = |name| {
        config
            .layer_scale
            .then(|| scope.pp(name).vector("gamma", &[d]))
    };
    Ok(Block {
        norm1: LayerNorm::new(d, EPSILON, &scope.pp("norm1")),
        attention: SelfAttention::fused(d, config.num_heads, &scope.pp("attn"))?,
        scale1: scale("ls1"),
        norm2: LayerNorm::new(d, EPSILON, &scope.pp("norm2")),
        mlp: Mlp::new(d, config.hidden(), Activation::Gelu, &scope.pp("mlp")),
        scale2: scale("ls2"),
    })
}

/// Finds the sizes of a timm model and the image size to run it at.
///
/// Sizes come from the config file, if there is one, else they are those of `published`. The image
/// size is the one asked for, else the config file's `img_size`, else MERV's 224.
///
/// # Errors
///
/// When the config file cannot be read, names an architecture that is not in `architectures`, or sizes
/// that make no model.
pub fn resolve(
    request: &EncoderRequest,
    architectures: &[(&str, VitConfig)],
    published: &str,
) -> Result<(VitConfig, usize)> {
    request::check_cpu_f32(&request.model)?;
    let path = request::config(&request.model);
    let timm = match &path {
        Some(path) => config::read::<TimmConfig>(path)?,
        None => TimmConfig {
            architecture: published.to_owned(),
            model_args: TimmArgs::default(),
        },
    };
    config::in_file(path.as_deref(), sizes_of(request, &timm, architectures))
}

fn sizes_of(
    request: &EncoderRequest,
    timm: &TimmConfig,
    architectures: &[(&str, VitConfig)],
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
    require(request.num_frames > 0, || {
        "expected at least one frame".into()
    })?;
    Ok((sizes, image_size))
}

/// An encoder whose features are the patch tokens of the last block but one, frame after frame,
/// without the final norm and without class and register tokens: what MERV takes from SigLIP and
/// DINOv2.
pub struct PatchTokens {
    vit: Vit,
    info: EncoderInfo,
}

impl PatchTokens {
    /// What such an encoder is.
    pub fn describe(
        config: &VitConfig,
        num_frames: u32,
        image_size: usize,
        mean: [f32; 3],
        std: [f32; 3],
    ) -> EncoderInfo {
        let blocks = config.depth - 1;
        EncoderInfo {
            width: config.embed_dim as u32,
            num_frames,
            image_size: image_size as u32,
            temporal: num_frames,
            spatial: config.grid(image_size).pow(2) as u32,
            preprocess: PreprocessSpec {
                image_size: image_size as u32,
                short_side: image_size as u32,
                interpolation: Interpolation::Bicubic,
                domain: ResizeDomain::PillowU8,
                mean,
                std,
            },
            dtype: DType::F32,
            parameters: config.parameters(blocks),
            macs_per_clip: u64::from(num_frames) * config.macs(image_size, blocks),
        }
    }

    /// Loads the weights of all blocks but the last; `unused` are names that the file may hold
    /// besides.
    ///
    /// # Errors
    ///
    /// When the weights do not fit.
    pub fn load(
        paths: &[PathBuf],
        unused: &[&str],
        config: &VitConfig,
        info: EncoderInfo,
    ) -> Result<Self> {
        let last = format!("blocks.{}.", config.depth - 1);
        let unused: Vec<&str> = unused.iter().copied().chain([last.as_str()]).collect();
        let vit = weights::load(paths, &unused, |scope| {
            scope
                .pp("blocks")
                .pp(config.depth - 1)
                .require("norm1.weight");
            Vit::new(config, info.image_size as usize, config.depth - 1, &scope)
        })?;
        Ok(Self { vit, info })
    }
}

impl Encoder for PatchTokens {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf> {
        let frames = self.info.num_frames as usize;
        let group = (1..=FRAMES_AT_ONCE.min(frames))
            .rev()
            .find(|&group| frames.is_multiple_of(group))
            .unwrap_or(1);
        let prefix = self.vit.config.prefix();
        encode_in_groups(clips, &self.info, group, |frames| {
            let tokens = self.vit.forward(frames)?;
            let patches = tokens.dim(1)? - prefix;
            Ok(tokens.narrow(1, prefix, patches)?.contiguous()?)
        })
    }
}
