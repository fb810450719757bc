//! SigLIP's vision tower (arXiv 2303.15343; timm's `vit_base_patch16_siglip_224`), applied to each frame. Its features
//! are the tokens of the last block but one, as in MERV.

use crate::{
    config,
    failure::{Failure, Result},
    learned::Learned,
    model::{Model, places},
    tensor::{copied_as, given, shape, size},
    weights::{Linear, Weights},
};
use merv_plugin_api::{
    Clips, Encoder, EncoderInfo, EncoderRequest, Interpolation, PluginError, PreprocessSpec,
    ReadyGradients, TensorBuf, TensorView, TrainableEncoder,
};
use serde::Deserialize;
use tch::{Tensor, no_grad};

const EPSILON: f64 = 1e-6;

const CHANNELS: usize = 3;

/// timm's `model_args`. Others describe a model that is not built here.
#[derive(Deserialize, Clone)]
#[serde(default, deny_unknown_fields)]
pub struct Sizes {
    img_size: usize,
    patch_size: usize,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
}

impl Default for Sizes {
    /// The sizes of `vit_base_patch16_siglip_224`.
    fn default() -> Self {
        Self {
            img_size: 224,
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
        }
    }
}

/// What is used of timm's `config.json`. SigLIP's mean, deviation and interpolation are the same in all of them.
#[derive(Deserialize)]
struct TimmConfig {
    #[serde(default)]
    model_args: Sizes,
}

impl Sizes {
    /// Reads the sizes, and checks that a model can have them.
    pub fn read(request: &EncoderRequest) -> Result<Self, PluginError> {
        let read: Option<TimmConfig> = config::read(&request.model)?;
        let sizes = read.map(|config| config.model_args).unwrap_or_default();
        let fits = [sizes.patch_size, sizes.num_heads, sizes.depth]
            .iter()
            .all(|&n| n > 0)
            && sizes.img_size.is_multiple_of(sizes.patch_size)
            && sizes.embed_dim.is_multiple_of(sizes.num_heads);
        if !fits {
            return Err(PluginError::weights(
                "`model_args`: the picture must consist of whole patches, and the width of whole heads",
            ));
        }
        Ok(sizes)
    }

    fn hidden(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    fn patches(&self) -> usize {
        (self.img_size / self.patch_size).pow(2)
    }

    /// The blocks before the last.
    fn blocks(&self) -> usize {
        self.depth - 1
    }

    pub fn describe(&self, request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        let trained = self.img_size as u32;
        if request
            .image_size
            .is_some_and(|requested| requested != trained)
        {
            return Err(PluginError::unsupported(format!(
                "`image_size`: this plugin uses pictures of {trained} pixels, as the encoder was trained"
            )));
        }
        let preprocess = PreprocessSpec::new(trained)
            .interpolation(Interpolation::BICUBIC)
            .normalise([0.5; 3], [0.5; 3]);
        let [d, hidden, patches, blocks, patch] = [
            self.embed_dim,
            self.hidden(),
            self.patches(),
            self.blocks(),
            self.patch_size,
        ]
        .map(|n| n as u64);
        let pixels = CHANNELS as u64 * patch * patch;
        let block = 4 * d * d + 2 * d * hidden + 9 * d + hidden;
        let parameters = d * pixels + d + patches * d + blocks * block;
        let block = patches * (4 * d * d + 2 * d * hidden) + 2 * patches * patches * d;
        let macs = u64::from(request.num_frames) * (patches * pixels * d + blocks * block);
        let shape = [request.num_frames, patches as u32];
        Ok(
            EncoderInfo::new(d as u32, request.num_frames, shape, preprocess)
                .cost(parameters, macs),
        )
    }
}

struct Norm(Tensor, Tensor);

impl Norm {
    fn new(weights: &mut Weights, name: &str, width: usize) -> Result<Self> {
        Ok(Self(
            weights.take(&format!("{name}.weight"), &[width])?,
            weights.take(&format!("{name}.bias"), &[width])?,
        ))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.0.size();
        Ok(x.f_layer_norm(width, Some(&self.0), Some(&self.1), EPSILON, false)?)
    }
}

struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
}

impl Block {
    fn new(weights: &mut Weights, index: usize, sizes: &Sizes) -> Result<Self> {
        let (d, hidden) = (sizes.embed_dim, sizes.hidden());
        let name = |part: &str| format!("blocks.{index}.{part}");
        Ok(Self {
            norm1: Norm::new(weights, &name("norm1"), d)?,
            qkv: Linear::new(weights, &name("attn.qkv"), [d, 3 * d], true)?,
            proj: Linear::new(weights, &name("attn.proj"), [d, d], true)?,
            norm2: Norm::new(weights, &name("norm2"), d)?,
            fc1: Linear::new(weights, &name("mlp.fc1"), [d, hidden], true)?,
            fc2: Linear::new(weights, &name("mlp.fc2"), [hidden, d], true)?,
            heads: size(sizes.num_heads),
        })
    }

    /// `[frames, patches, width]` → the same
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (frames, patches, width) = x.size3()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let qkv = qkv.f_view([frames, patches, 3, self.heads, width / self.heads])?;
        let qkv = qkv.f_permute([2, 0, 3, 1, 4])?;
        let [q, k, v] = [qkv.f_get(0)?, qkv.f_get(1)?, qkv.f_get(2)?];
        let mixed = Tensor::f_scaled_dot_product_attention::<Tensor>(
            &q, &k, &v, None, 0.0, false, None, false,
        )?;
        let mixed = mixed
            .f_transpose(1, 2)?
            .f_reshape([frames, patches, width])?;
        let x = x.f_add(&self.proj.forward(&mixed)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&x)?)?.f_gelu("none")?;
        Ok(x.f_add(&self.fc2.forward(&hidden)?)?)
    }
}

/// The tower, without what follows the last block but one.
pub struct Siglip {
    kernel: Tensor,
    bias: Tensor,
    /// `[1, patches, width]`
    positions: Tensor,
    blocks: Vec<Block>,
}

/// Loads the encoder of `request`.
pub fn load(request: &EncoderRequest) -> Result<Model<EncoderInfo, Siglip>> {
    let sizes = Sizes::read(request)?;
    let info = sizes.describe(request)?;
    let mut weights = Weights::read(&request.model)?;
    let (d, patch) = (sizes.embed_dim, sizes.patch_size);
    let kernel = weights.take("patch_embed.proj.weight", &[d, CHANNELS, patch, patch])?;
    let bias = weights.take("patch_embed.proj.bias", &[d])?;
    let positions = weights.take("pos_embed", &[1, sizes.patches(), d])?;
    let blocks = (0..sizes.blocks()).map(|index| Block::new(&mut weights, index, &sizes));
    let network = Siglip {
        kernel,
        bias,
        positions,
        blocks: blocks.collect::<Result<_>>()?,
    };
    Ok(Model::new(info, network, Learned::new(weights.taken)))
}

impl Siglip {
    /// `[batch, frames, 3, side, side]` → `[batch, frames · patches, width]`
    fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, frames, channels, height, width) = pixels.size5()?;
        let pictures = pixels.f_view([batch * frames, channels, height, width])?;
        let patch = self.kernel.size().get(2).copied().unwrap_or(1);
        let patches = pictures.f_conv2d(
            &self.kernel,
            Some(&self.bias),
            [patch, patch],
            [0, 0],
            [1, 1],
            1,
        )?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let mut x = patches.f_add(&self.positions)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let (_, count, features) = x.size3()?;
        Ok(x.f_reshape([batch, frames * count, features])?)
    }
}

impl Model<EncoderInfo, Siglip> {
    /// Copies clips, and checks their shape.
    fn pixels(&self, clips: &Clips<'_>) -> Result<Tensor> {
        let batch = clips.pixels.shape().first().copied().unwrap_or_default();
        let side = self.info.image_size() as usize;
        let shape = [batch, self.info.num_frames as usize, CHANNELS, side, side];
        copied_as("clips", &clips.pixels, &shape)
    }
}

impl Encoder for Model<EncoderInfo, Siglip> {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let pixels = self.pixels(clips)?;
        let inner = self.lock();
        Ok(given(&no_grad(|| inner.0.forward(&pixels))?)?)
    }
}

impl TrainableEncoder for Model<EncoderInfo, Siglip> {
    /// The features, with the graph that made them.
    type Tape = Tensor;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, Self::Tape), PluginError> {
        let pixels = self.pixels(clips)?;
        let inner = self.lock();
        inner.1.is_trained()?;
        let features = inner.0.forward(&pixels)?;
        Ok((given(&features)?, features))
    }

    fn backward(
        &self,
        features: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError> {
        let gradient = copied_as("a gradient", gradient, &shape(&features))?;
        let inner = self.lock();
        // The gradient of this sum with respect to the features is `gradient`.
        let sum = features.f_mul(&gradient).and_then(|x| x.f_sum(None));
        inner.1.backward(&sum.map_err(Failure::from)?, None)?;
        ready(&places(&inner.1)?)
    }
}
