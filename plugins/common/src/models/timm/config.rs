//! The sizes of a vision transformer, by timm's names.

use crate::{
    Result,
    activation::Activation,
    config::{CHANNELS, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, heads_divide, require, within},
    models::frame_tokens::FrameTokens,
};

/// Where open_clip's files keep the tower (`open_clip/timm_model.py`); timm's own files have no prefix.
pub(crate) const OPEN_CLIP: &str = "visual.trunk.";

/// The position embeddings.
pub(crate) const POSITIONS: &str = "pos_embed";

/// How timm makes one vector of an image's tokens (`global_pool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Token,
    /// [`AttentionPool`](crate::layers::attention_pool::AttentionPool).
    Map,
}

impl Pool {
    /// timm's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Map => "map",
        }
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Token, Self::Map]
            .into_iter()
            .find(|pool| pool.name() == name)
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

    /// Whether they are made of class tokens.
    pub(super) fn needs_class(self) -> bool {
        use FrameTokens::{All, Class, ClassesFirst, MeanClassFirst};
        matches!(
            self,
            Self::Tokens(All | Class | ClassesFirst | MeanClassFirst)
        )
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

/// A vision transformer by the names of timm's arguments; [`Self::default`] has timm's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Height and width the weights were trained at, in pixels; where the weights are there, they say it
    /// better.
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
    /// Whether there is a class token (`cls_token`).
    pub class_token: bool,
    /// Register tokens (arXiv 2309.16588).
    pub reg_tokens: usize,
    /// Whether class and register tokens have no position of their own.
    pub no_embed_class: bool,
    /// Whether a norm stands before the blocks (`norm_pre`), and patches have no bias: CLIP.
    pub pre_norm: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the other layers of a block have biases.
    pub proj_bias: bool,
    /// Whether branches are scaled (`ls1.gamma`, `ls2.gamma`).
    pub layer_scale: bool,
    /// The perceptron's activation.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub epsilon: f64,
    /// How an image becomes one vector.
    pub pool: Pool,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            img_size: 224,
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            class_token: true,
            reg_tokens: 0,
            no_embed_class: false,
            pre_norm: false,
            qkv_bias: true,
            proj_bias: true,
            layer_scale: false,
            activation: Activation::Gelu,
            epsilon: 1e-6,
            pool: Pool::Token,
        }
    }
}

impl VitConfig {
    /// Refuses sizes that make no model.
    ///
    /// # Errors
    ///
    /// When a size is zero, heads do not divide the width, or images are smaller than a patch.
    pub fn check(&self) -> Result<()> {
        within(
            MAX_SIZE,
            &[("embed_dim", self.embed_dim), ("num_heads", self.num_heads)],
        )?;
        within(
            MAX_IMAGE,
            &[("patch_size", self.patch_size), ("img_size", self.img_size)],
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
        require(self.img_size >= self.patch_size, || {
            format!(
                "images of {} pixels are smaller than a patch of {}",
                self.img_size, self.patch_size
            )
        })
    }

    /// The same with the image size that its position embeddings were trained at, which their shape in the
    /// file tells whatever the config says.
    ///
    /// # Errors
    ///
    /// When they are not those of a square grid.
    pub fn at_stored_size(mut self, positions: &[usize]) -> Result<Self> {
        let &[1, stored, _] = positions else {
            // Reported with all else that does not fit when it is taken.
            return Ok(self);
        };
        let before = self.placed_prefix();
        let side = stored.saturating_sub(before).isqrt();
        require(side > 0 && side.pow(2) + before == stored, || {
            format!(
                "the weights hold {stored} positions (`pos_embed` {positions:?}), which are not the {before} \
                 of class and register tokens and a square grid of patches; check `class_token`, \
                 `reg_tokens` and `no_embed_class`"
            )
        })?;
        self.img_size = side.saturating_mul(self.patch_size);
        Ok(self)
    }

    /// Patches along one side of an image.
    pub fn grid(&self, image_size: usize) -> usize {
        image_size / self.patch_size
    }

    /// Tokens before the patches: class and registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.reg_tokens
    }

    /// Tokens before the patches that have a position.
    pub fn placed_prefix(&self) -> usize {
        if self.no_embed_class {
            0
        } else {
            self.prefix()
        }
    }

    /// Width of the perceptron.
    pub fn hidden(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// Parameters that take part in computing `features`.
    pub fn parameters(&self, features: VitFeatures) -> u64 {
        let kernel = CHANNELS * self.patch_size.pow(2);
        let fixed = self.grid(self.img_size).pow(2) + self.placed_prefix() + self.prefix();
        let blocks = features.blocks(self);
        let sizes = [self.embed_dim, self.hidden(), kernel, fixed, blocks];
        let [d, h, kernel, fixed, blocks] = sizes.map(|size| size as u128);
        let if_so = |condition, count| if condition { count } else { 0 };
        let biases = if_so(self.qkv_bias, 3 * d) + if_so(self.proj_bias, 2 * d + h);
        let products = 4 * d * d + 2 * d * h;
        let block = products + biases + 4 * d + if_so(self.layer_scale, 2 * d);
        // Patches have a bias, or a norm after them.
        let before = if self.pre_norm { 2 * d } else { d };
        let head = match (features, self.pool) {
            (VitFeatures::Tokens(_), _) => 0,
            (VitFeatures::Pooled, Pool::Token) => 2 * d,
            // Besides the final norm: the latent, and a norm of its own.
            (VitFeatures::Pooled, Pool::Map) => 2 * d + products + 5 * d + h + 3 * d,
        };
        clamped(kernel * d + before + fixed * d + blocks * block + head)
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
