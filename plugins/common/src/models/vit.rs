//! timm's `VisionTransformer` (arXiv 2010.11929; `timm/models/vision_transformer.py`): the trunk of
//! SigLIP and DINOv2.

use crate::{
    Result,
    config::CHANNELS,
    gradients::reshape,
    layers::{
        attention::SelfAttention, block::Block, linear::Linear, mlp::Mlp, norm::LayerNorm,
        patch::PatchEmbed, position::TokenEmbedding,
    },
    tensor::rows,
    weights::Scope,
};
use candle_core::Tensor;
use merv_architectures::timm::{POSITIONS, VitConfig};

/// The first blocks of a vision transformer, without the final norm.
pub struct Vit {
    patch_embed: PatchEmbed,
    /// The embedding for the requested image size.
    embedding: TokenEmbedding,
    pre_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    config: VitConfig,
    image_size: usize,
}

impl Vit {
    /// Takes the embedding and the first `blocks` blocks from `scope`, for images of `image_size`.
    ///
    /// # Errors
    ///
    /// When [`VitConfig::check`] fails, or the stored positions do not fit.
    pub fn new(
        config: &VitConfig,
        image_size: usize,
        blocks: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        config.check()?;
        let config = match scope.shape(POSITIONS) {
            Some(shape) => config.clone().at_stored_size(shape)?,
            None => config.clone(),
        };
        let d = config.embed_dim;
        let trained = config.grid(config.img_size);
        let count = config.placed_prefix() + trained * trained;
        let positions = scope.small_parameter(POSITIONS, &[1, count, d]);
        let mut prefix = Vec::new();
        if config.class_token {
            prefix.push(scope.small_parameter("cls_token", &[1, 1, d]));
        }
        if config.reg_tokens > 0 {
            prefix.push(scope.small_parameter("reg_token", &[1, config.reg_tokens, d]));
        }
        let grids = [trained, config.grid(image_size)];
        Ok(Self {
            patch_embed: PatchEmbed::new_2d(
                config.patch_size,
                d,
                !config.pre_norm,
                &scope.pp("patch_embed.proj"),
            ),
            embedding: TokenEmbedding::resampled(
                prefix,
                positions,
                d,
                config.placed_prefix(),
                grids,
            ),
            pre_norm: config
                .pre_norm
                .then(|| LayerNorm::new(d, config.epsilon, &scope.pp("norm_pre"))),
            blocks: (0..blocks)
                .map(|index| block(&config, &scope.pp("blocks").pp(index)))
                .collect::<Result<_>>()?,
            config,
            image_size,
        })
    }

    /// Returns the sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
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
        let mut x = self.embedding.forward(&patches)?;
        if let Some(norm) = &self.pre_norm {
            x = norm.forward(&x)?;
        }
        let tokens = rows(&x)?.0 / count.max(1);
        for block in &self.blocks {
            x = block.forward(&x, count, tokens)?;
        }
        reshape(&x, (count, tokens, d))
    }
}

fn block(config: &VitConfig, scope: &Scope<'_>) -> Result<Block> {
    let d = config.embed_dim;
    let scale = |name| {
        config
            .layer_scale
            .then(|| scope.pp(name).small_parameter("gamma", &[d]))
    };
    let (hidden, bias) = (config.hidden(), config.proj_bias);
    let linear =
        |name: &str, inputs, outputs, bias| Linear::new(inputs, outputs, bias, &scope.pp(name));
    Ok(Block {
        norm1: LayerNorm::new(d, config.epsilon, &scope.pp("norm1")),
        attention: SelfAttention::fused(
            linear("attn.qkv", d, 3 * d, config.qkv_bias),
            linear("attn.proj", d, d, bias),
            config.num_heads,
            d,
        )?,
        scale1: scale("ls1"),
        norm2: LayerNorm::new(d, config.epsilon, &scope.pp("norm2")),
        mlp: Mlp::from_parts(
            linear("mlp.fc1", d, hidden, bias),
            linear("mlp.fc2", hidden, d, bias),
            config.activation,
        ),
        scale2: scale("ls2"),
    })
}
