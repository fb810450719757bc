//! A small vision transformer as a plugin, built from the parts of the SDK: patches, a class token with a
//! position, a norm before the blocks, blocks with CLIP's activation, and the patches of the last block as
//! features. Copy it to start an encoder whose layers have other names or another order.
//!
//! Build it with `cargo build --release -p merv-plugin-sdk --example small_vit`. A project of its own is a
//! `cdylib` crate that depends on `merv-plugin-api`, `merv-plugin-sdk` and `serde`.

use merv_plugin_api::*;
use merv_plugin_sdk::{
    Result,
    activation::Activation,
    candle::Tensor,
    config::{MAX_IMAGE, MAX_LAYERS, MAX_SIZE, heads_divide, in_file, read, within},
    encoder_plugin::{EncoderFamily, EncoderPlugin},
    gradients::{Parameters, reshape},
    layers::{
        attention::SelfAttention, block::Block, linear::Linear, mlp::Mlp, norm::LayerNorm,
        patch::PatchEmbed, position::TokenEmbedding,
    },
    models::{
        ClipTape,
        frame_tokens::{FrameTokens, encode_frames},
    },
    precision::Precision,
    request, trainable,
    weights::{self, Scope},
};
use std::path::PathBuf;

/// The sizes, as the model's `config.json` states them.
#[derive(Debug, Clone, serde::Deserialize)]
struct Config {
    image_size: usize,
    patch_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
}

impl Config {
    /// Checks the sizes before anything is computed from them: config files are not trusted.
    fn check(&self) -> Result<()> {
        within(
            MAX_IMAGE,
            &[
                ("image_size", self.image_size),
                ("patch_size", self.patch_size),
            ],
        )?;
        within(MAX_SIZE, &[("width", self.width), ("heads", self.heads)])?;
        within(MAX_LAYERS, &[("layers", self.layers)])?;
        heads_divide(self.heads, self.width)
    }

    fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

struct SmallVit {
    patch_embed: PatchEmbed,
    embedding: TokenEmbedding,
    pre_norm: LayerNorm,
    blocks: Vec<Block>,
    config: Config,
    info: EncoderInfo,
    parameters: Parameters,
}

// How the parameters are trained is the same for every model.
trainable!(SmallVit, parameters);

impl SmallVit {
    /// Takes every tensor under its name in the file. `weights::load` reports all tensors that are missing,
    /// unused or of another shape in one error.
    fn new(config: &Config, info: EncoderInfo, scope: &Scope<'_>) -> Result<Self> {
        let d = config.width;
        Ok(Self {
            patch_embed: PatchEmbed::new_2d(config.patch_size, d, false, &scope.pp("patches")),
            embedding: TokenEmbedding::placed(
                vec![scope.small_parameter("class", &[1, 1, d])],
                scope.small_parameter("positions", &[1, 1 + config.patches(), d]),
                d,
            ),
            pre_norm: LayerNorm::new(d, 1e-5, &scope.pp("pre_norm")),
            blocks: (0..config.layers)
                .map(|index| block(config, &scope.pp("blocks").pp(index)))
                .collect::<Result<_>>()?,
            config: config.clone(),
            info,
            parameters: scope.parameters(),
        })
    }

    /// One frame, `[1, 3, size, size]` → `[1, 1 + patches, width]`
    fn forward(&self, frame: &[f32]) -> Result<Tensor> {
        let tokens = 1 + self.config.patches();
        let patches = self.patch_embed.forward(frame, self.config.image_size)?;
        let mut x = self.pre_norm.forward(&self.embedding.forward(&patches)?)?;
        for block in &self.blocks {
            x = block.forward(&x, 1, tokens)?;
        }
        reshape(&x, (1, tokens, self.config.width))
    }
}

fn block(config: &Config, scope: &Scope<'_>) -> Result<Block> {
    let d = config.width;
    let linear = |name: &str, inputs, outputs| Linear::new(inputs, outputs, true, &scope.pp(name));
    Ok(Block {
        norm1: LayerNorm::new(d, 1e-5, &scope.pp("norm1")),
        attention: SelfAttention::fused(
            linear("qkv", d, 3 * d),
            linear("out", d, d),
            config.heads,
            d,
        )?,
        scale1: None,
        norm2: LayerNorm::new(d, 1e-5, &scope.pp("norm2")),
        mlp: Mlp::from_parts(
            linear("up", d, 4 * d),
            linear("down", 4 * d, d),
            Activation::QuickGelu,
        ),
        scale2: None,
    })
}

impl Encoder for SmallVit {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf> {
        // One frame at a time. The first token is the class token; the patches become features.
        encode_frames(
            &clips.pixels,
            &self.info,
            1,
            FrameTokens::Patches,
            1,
            |frame| self.forward(frame),
        )
    }
}

impl TrainableEncoder for SmallVit {
    type Tape = ClipTape;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, ClipTape)> {
        self.parameters.options()?;
        let mut tape = ClipTape::default();
        let features = encode_frames(
            &clips.pixels,
            &self.info,
            1,
            FrameTokens::Patches,
            1,
            |frame| tape.record(|| self.forward(frame)),
        )?;
        Ok((features, tape))
    }

    fn backward(
        &self,
        tape: ClipTape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<()> {
        tape.backward_frames(&self.info, FrameTokens::Patches, 1, gradient)?;
        self.parameters.all_ready(ready)
    }
}

struct SmallVitFamily;

impl EncoderFamily for SmallVitFamily {
    type Model = Config;

    const MANIFEST: Manifest = Manifest::new("small-vit", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .provides(
            &[Provided::encoder("small-vit", "of the weights in question")
                .features(&[feature::TRAIN])],
        );

    /// Works out the sizes and the description from the request and the config file alone.
    fn describe(request: &EncoderRequest) -> Result<(Config, EncoderInfo)> {
        let precision = request::precision(&request.model)?;
        let path = request.model.config.as_deref();
        let path = path
            .ok_or_else(|| PluginError::weights("`small-vit` needs a `config` with its sizes"))?;
        let config: Config = read(path)?;
        in_file(Some(path), config.check())?;
        // A size that this model does not support is a mistake in the registry, so the error names the
        // registry's key.
        let size = config.image_size as u32;
        let requested = request.image_size.unwrap_or(size);
        request::fits(requested == size, "image_size", requested, || {
            size.to_string()
        })?;
        let preprocess = PreprocessSpec::new(size)
            .interpolation(Interpolation::BICUBIC)
            .normalise([0.5; 3], [0.5; 3]);
        let grid = [request.num_frames, config.patches() as u32];
        let info = EncoderInfo::new(config.width as u32, request.num_frames, grid, preprocess)
            .dtype(precision.dtype());
        Ok((config, info))
    }

    fn load(config: Config, info: EncoderInfo, paths: &[PathBuf]) -> Result<EncoderObject> {
        let model = weights::load(paths, &[], |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            SmallVit::new(&config, info, &scope)
        })?;
        Ok(EncoderObject::trainable(model))
    }
}

merv_plugin_api::export_plugin!(EncoderPlugin<SmallVitFamily>);
