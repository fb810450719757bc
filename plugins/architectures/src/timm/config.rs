//! The sizes of a vision transformer, with timm's names.

use crate::{
    Result,
    activation::Activation,
    config::{CHANNELS, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, heads_divide, require, within},
    frame_tokens::FrameTokens,
};

/// The prefix of the tower in open_clip's files (`open_clip/timm_model.py`). timm's own files have no prefix.
pub const OPEN_CLIP: &str = "visual.trunk.";

/// The name of the position embeddings.
pub const POSITIONS: &str = "pos_embed";

/// How timm turns the tokens of an image into one vector (`global_pool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Token,
    /// `AttentionPoolLatent`: a learned query combines all tokens.
    Map,
}

impl Pool {
    /// Returns timm's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Map => "map",
        }
    }

    /// Returns the pool with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Token, Self::Map]
            .into_iter()
            .find(|pool| pool.name() == name)
    }
}

/// The features that an encoder takes from a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VitFeatures {
    /// Tokens of the last block but one, without the final norm.
    Tokens(FrameTokens),
    /// One vector for each frame, from all blocks, the final norm, and the model's [`Pool`].
    Pooled,
}

impl VitFeatures {
    /// Returns the number of blocks that they need.
    pub fn blocks(self, config: &VitConfig) -> usize {
        config.depth - usize::from(self != Self::Pooled)
    }

    /// Returns whether they include class tokens.
    pub(super) fn needs_class(self) -> bool {
        use FrameTokens::{All, Class, ClassesFirst, MeanClassFirst};
        matches!(
            self,
            Self::Tokens(All | Class | ClassesFirst | MeanClassFirst)
        )
    }

    /// Returns which tokens become features. The pooled vector is the only token of its frame.
    pub fn choice(self) -> FrameTokens {
        match self {
            Self::Tokens(choice) => choice,
            Self::Pooled => FrameTokens::Class,
        }
    }
}

/// The encoder that an id stands for.
#[derive(Debug, Clone, Copy)]
pub struct VitVariant {
    /// timm's architecture, whose sizes apply without a config file.
    pub architecture: &'static str,
    /// The features.
    pub features: VitFeatures,
}

/// The sizes of a vision transformer, named as timm's arguments. [`Self::default`] has timm's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// The height and width of the training images, in pixels. The stored position embeddings take
    /// precedence.
    pub img_size: usize,
    /// The height and width of a patch, in pixels.
    pub patch_size: usize,
    /// The width of the model.
    pub embed_dim: usize,
    /// The number of blocks.
    pub depth: usize,
    /// The number of attention heads.
    pub num_heads: usize,
    /// The width of the perceptron, relative to the width of the model.
    pub mlp_ratio: f64,
    /// Whether there is a class token (`cls_token`).
    pub class_token: bool,
    /// The number of register tokens (arXiv 2309.16588).
    pub reg_tokens: usize,
    /// Whether class and register tokens have no position.
    pub no_embed_class: bool,
    /// Whether there is a norm before the blocks (`norm_pre`) and patches have no bias, as in CLIP.
    pub pre_norm: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the other layers of a block have biases.
    pub proj_bias: bool,
    /// Whether branches are scaled (`ls1.gamma`, `ls2.gamma`).
    pub layer_scale: bool,
    /// The activation of the perceptron.
    pub activation: Activation,
    /// The epsilon of the norms.
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
    /// Checks the sizes.
    ///
    /// # Errors
    ///
    /// When a size is out of range, the heads do not divide the width, or images are smaller than a patch.
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
            "expected `depth` of at least 2, because the features are those of the last block but one"
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

    /// Sets the image size to the one that follows from the shape of the stored position embeddings, which
    /// takes precedence over the config.
    ///
    /// # Errors
    ///
    /// When the positions do not form a square grid.
    pub fn at_stored_size(mut self, positions: &[usize]) -> Result<Self> {
        let &[1, stored, _] = positions else {
            // Loading reports it, together with all other problems.
            return Ok(self);
        };
        let before = self.placed_prefix();
        let side = stored.saturating_sub(before).isqrt();
        require(side > 0 && side.pow(2) + before == stored, || {
            format!(
                "the weights contain {stored} positions (`pos_embed` {positions:?}), but {before} for the class \
                 and register tokens and a square grid of patches were expected; check `class_token`, \
                 `reg_tokens` and `no_embed_class`"
            )
        })?;
        self.img_size = side.saturating_mul(self.patch_size);
        Ok(self)
    }

    /// Returns the number of patches along one side of an image.
    pub fn grid(&self, image_size: usize) -> usize {
        image_size / self.patch_size
    }

    /// Returns the number of tokens before the patches: class and registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.reg_tokens
    }

    /// Returns the number of tokens before the patches that have a position.
    pub fn placed_prefix(&self) -> usize {
        if self.no_embed_class {
            0
        } else {
            self.prefix()
        }
    }

    /// Returns the width of the perceptron.
    pub fn hidden(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// Returns the number of parameters that `features` depend on.
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
            // The final norm, the latent, and the norm of the pool.
            (VitFeatures::Pooled, Pool::Map) => 2 * d + products + 5 * d + h + 3 * d,
        };
        clamped(kernel * d + before + fixed * d + blocks * block + head)
    }

    /// Returns the multiply-accumulate operations of `features` for one frame.
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
