//! timm's `VisionTransformer` (arXiv 2010.11929; `timm/models/vision_transformer.py`): the trunk of
//! SigLIP and DINOv2.

use crate::{
    Result,
    activation::Activation,
    attention::SelfAttention,
    block::Block,
    mlp::Mlp,
    norm::LayerNorm,
    patch::{CHANNELS, PatchEmbed},
    position::resample,
    tensor::{from_vec, with_slice},
    timm::VitConfig,
    weights::Scope,
};
use candle_core::Tensor;

/// The epsilon of timm's layer norms.
pub(crate) const EPSILON: f64 = 1e-6;

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
        let tokens = self.positions.len() / d + self.config.prefix();
        let mut x = Vec::with_capacity(count * tokens * d);
        with_slice(&patches, |patches| {
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
