//! timm's `VisionTransformer` (arXiv 2010.11929; `timm/models/vision_transformer.py`), applied to each frame: SigLIP and
//! DINOv2. The features are tokens of the last block but one, without the final norm, or one pooled vector for each frame.

use super::{frame_tokens::arranged, network::Network};
use crate::{
    failure::Result,
    layers::{Block, Conv, LayerNorm, Linear, Mlp, SelfAttention, TokenEmbedding, attend, heads},
    tensor::size,
    weights::Scope,
};
use merv_architectures::{
    config::CHANNELS,
    frame_tokens::FrameTokens,
    timm::{self, POSITIONS, Pool, VitConfig, VitFeatures},
};
use merv_plugin_api::Call;
use tch::Tensor;

/// The transformer, up to the features.
pub struct Vit {
    patches: Conv,
    embedding: TokenEmbedding,
    pre_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    head: Option<Head>,
    choice: FrameTokens,
    /// The number of tokens before the patches.
    prefix: i64,
}

impl Vit {
    /// Takes the weights for frames of `image_size` from `scope`, the root of timm's or open_clip's files.
    pub fn new(
        config: &VitConfig,
        features: VitFeatures,
        image_size: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let scope = &scope.below(timm::root(|name| scope.contains(name)));
        // A file without the last block belongs to a smaller model.
        let last = scope.pp("blocks").pp(config.depth - 1);
        last.require("norm1.weight");
        let config = &match scope.shape(POSITIONS) {
            Some(shape) => config.clone().at_stored_size(shape)?,
            None => config.clone(),
        };
        let (d, patch) = (config.embed_dim, config.patch_size);
        let trained = config.grid(config.img_size);
        let count = config.placed_prefix() + trained * trained;
        let positions = scope.vector(POSITIONS, &[1, count, d]);
        let mut prefix = Vec::new();
        if config.class_token {
            prefix.push(scope.vector("cls_token", &[1, 1, d]));
        }
        if config.reg_tokens > 0 {
            prefix.push(scope.vector("reg_token", &[1, config.reg_tokens, d]));
        }
        let grids = [trained, config.grid(image_size)];
        let blocks = 0..features.blocks(config);
        Ok(Self {
            patches: Conv::patches(
                &[d, CHANNELS, patch, patch],
                !config.pre_norm,
                &scope.pp("patch_embed.proj"),
            ),
            embedding: TokenEmbedding::resampled(prefix, positions, config.placed_prefix(), grids),
            pre_norm: config
                .pre_norm
                .then(|| LayerNorm::new(d, config.epsilon, &scope.pp("norm_pre"))),
            blocks: blocks
                .map(|index| block(config, &scope.pp("blocks").pp(index)))
                .collect(),
            head: (features == VitFeatures::Pooled).then(|| Head::new(config, scope)),
            choice: features.choice(),
            prefix: size(config.prefix()),
        })
    }
}

impl Network for Vit {
    fn group(&self) -> usize {
        1
    }

    fn forward(&self, clips: &Tensor) -> Result<Tensor> {
        let batch = clips.size5()?.0;
        let patches = self.patches.forward(&clips.f_flatten(0, 1)?)?;
        let mut x = self.embedding.forward(&patches)?;
        if let Some(norm) = &self.pre_norm {
            x = norm.forward(&x)?;
        }
        for block in &self.blocks {
            Call::current().check()?;
            x = block.forward(&x)?;
        }
        match &self.head {
            // A pooled frame is one token.
            Some(head) => arranged(&head.forward(&x)?, batch, self.choice, 1),
            None => arranged(&x, batch, self.choice, self.prefix),
        }
    }
}

fn block(config: &VitConfig, scope: &Scope<'_>) -> Block {
    let (d, hidden, bias) = (config.embed_dim, config.hidden(), config.proj_bias);
    let scale = |name: &str| {
        let scope = scope.pp(name);
        config.layer_scale.then(|| scope.vector("gamma", &[d]))
    };
    let linear =
        |name: &str, inputs, outputs, bias| Linear::new(inputs, outputs, bias, &scope.pp(name));
    let norm = |name: &str| LayerNorm::new(d, config.epsilon, &scope.pp(name));
    Block {
        norm1: norm("norm1"),
        attention: SelfAttention::fused(
            linear("attn.qkv", d, 3 * d, config.qkv_bias),
            linear("attn.proj", d, d, bias),
            config.num_heads,
        ),
        scale1: scale("ls1"),
        norm2: norm("norm2"),
        mlp: Mlp::from_parts(
            linear("mlp.fc1", d, hidden, bias),
            linear("mlp.fc2", hidden, d, bias),
            config.activation,
        ),
        scale2: scale("ls2"),
    }
}

/// timm's final norm and `global_pool`, which turn the tokens of a frame into one vector.
struct Head {
    norm: LayerNorm,
    /// `None` if the class token is the pooled vector.
    pool: Option<AttentionPool>,
    prefix: i64,
}

impl Head {
    fn new(config: &VitConfig, scope: &Scope<'_>) -> Self {
        Self {
            norm: LayerNorm::new(config.embed_dim, config.epsilon, &scope.pp("norm")),
            pool: match config.pool {
                Pool::Token => None,
                Pool::Map => Some(AttentionPool::new(config, &scope.pp("attn_pool"))),
            },
            prefix: size(config.prefix()),
        }
    }

    /// `[frames, tokens, width]` → `[frames, 1, width]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tokens = x.size3()?.1;
        match &self.pool {
            // Only the patches are pooled.
            Some(pool) => {
                let patches = x.f_narrow(1, self.prefix, tokens - self.prefix)?;
                pool.forward(&self.norm.forward(&patches)?)
            }
            None => self.norm.forward(&x.f_narrow(1, 0, 1)?),
        }
    }
}

/// timm's `AttentionPoolLatent` (`timm/layers/attention_pool.py`) with one latent, as in SigLIP (arXiv 1810.00825): attention
/// of the latent to all tokens, then a perceptron on a residual branch.
struct AttentionPool {
    /// `[1, 1, width]`
    latent: Tensor,
    query: Linear,
    key_value: Linear,
    output: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: i64,
}

impl AttentionPool {
    fn new(config: &VitConfig, scope: &Scope<'_>) -> Self {
        let d = config.embed_dim;
        let linear = |name: &str, outputs| Linear::new(d, outputs, true, &scope.pp(name));
        Self {
            latent: scope.vector("latent", &[1, 1, d]),
            query: linear("q", d),
            key_value: linear("kv", 2 * d),
            output: linear("proj", d),
            norm: LayerNorm::new(d, config.epsilon, &scope.pp("norm")),
            mlp: Mlp::new(d, config.hidden(), config.activation, &scope.pp("mlp")),
            heads: size(config.num_heads),
        }
    }

    /// `[batch, tokens, width]` → `[batch, 1, width]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, width) = x.size3()?;
        let query = self.query.forward(&self.latent)?;
        let query = heads(&query.f_expand([batch, 1, width], false)?, self.heads)?;
        let key_value = self.key_value.forward(x)?;
        let part = |index| {
            heads(
                &key_value
                    .f_narrow(2, index * width, width)?
                    .f_contiguous()?,
                self.heads,
            )
        };
        let pooled = attend(&query, &part(0)?, &part(1)?, None)?;
        let pooled = pooled.f_transpose(1, 2)?.f_flatten(2, 3)?;
        let x = self.output.forward(&pooled)?.f_to_kind(tch::Kind::Float)?;
        Ok(x.f_add(&self.mlp.forward(&self.norm.forward(&x)?)?)?)
    }
}
