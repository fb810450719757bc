//! timm's `VisionTransformer` (arXiv 2010.11929; `timm/models/vision_transformer.py`): the trunk of
//! SigLIP and DINOv2.

use crate::{
    Result,
    activation::Activation,
    attention::SelfAttention,
    block::Block,
    gradients::reshape,
    mlp::Mlp,
    norm::LayerNorm,
    patch::{CHANNELS, PatchEmbed},
    position::TokenEmbedding,
    tensor::rows,
    timm::VitConfig,
    weights::Scope,
};
use candle_core::Tensor;

/// The epsilon of timm's layer norms.
pub(crate) const EPSILON: f64 = 1e-6;

/// The first blocks of a vision transformer, without the final norm.
pub struct Vit {
    patch_embed: PatchEmbed,
    /// For the image size that was asked for.
    embedding: TokenEmbedding,
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
        let positions = scope.small_parameter("pos_embed", &[1, trained * trained, d]);
        let mut prefix = Vec::new();
        if config.class_token {
            prefix.push(scope.small_parameter("cls_token", &[1, 1, d]));
        }
        if config.reg_tokens > 0 {
            prefix.push(scope.small_parameter("reg_token", &[1, config.reg_tokens, d]));
        }
        let grid = config.grid(image_size);
        Ok(Self {
            patch_embed: PatchEmbed::new_2d(
                config.patch_size,
                d,
                true,
                &scope.pp("patch_embed.proj"),
            ),
            embedding: TokenEmbedding::resampled(prefix, positions, d, trained, grid),
            blocks: (0..blocks)
                .map(|index| block(config, &scope.pp("blocks").pp(index)))
                .collect::<Result<_>>()?,
            config: config.clone(),
            image_size,
        })
    }

    /// Its sizes.
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
    Ok(Block {
        norm1: LayerNorm::new(d, EPSILON, &scope.pp("norm1")),
        attention: SelfAttention::fused(d, config.num_heads, &scope.pp("attn"))?,
        scale1: scale("ls1"),
        norm2: LayerNorm::new(d, EPSILON, &scope.pp("norm2")),
        mlp: Mlp::new(d, config.hidden(), Activation::Gelu, &scope.pp("mlp")),
        scale2: scale("ls2"),
    })
}
