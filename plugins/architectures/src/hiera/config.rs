//! The ids of Hiera encoders, and the sizes in the `config.json` that `hiera` (`hiera/hfhub.py`) writes: the
//! arguments of the model's constructor.

use crate::{
    Result,
    config::{
        CHANNELS, MAX_IMAGE, MAX_LAYERS, MAX_SIZE, clamped, heads_divide, only_size, require,
        within,
    },
    request,
    variants::Variant,
};
use serde::Deserialize;

/// The sizes that differ between the published models.
#[derive(Debug)]
pub struct Size {
    embed_dim: usize,
    num_heads: usize,
    stages: [usize; 4],
}

/// MERV's ids. An id accepts weights that were finetuned on Kinetics-400 (`mae_k400_ft_k400`, MERV's choice)
/// and those of the masked autoencoder (`mae_k400`), because the model is the same.
pub const VARIANTS: [Variant<Size>; 3] = [
    variant("hiera-base-video", 96, 1, [2, 3, 16, 3]),
    variant("hiera-base-plus-video", 112, 2, [2, 3, 16, 3]),
    variant("hiera-large-video", 144, 2, [2, 6, 36, 4]),
];

const fn variant(
    id: &'static str,
    embed_dim: usize,
    num_heads: usize,
    stages: [usize; 4],
) -> Variant<Size> {
    Variant {
        id,
        license: "CC-BY-NC-4.0 (facebook/hiera_…_16x224.mae_k400_ft_k400)",
        model: Size {
            embed_dim,
            num_heads,
            stages,
        },
    }
}

/// The arguments of `hiera.Hiera`, with their names. Other arguments (dropout, initialisation) do not affect
/// a loaded model.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Frames, height and width of a clip.
    input_size: [usize; 3],
    #[serde(default = "three")]
    in_chans: usize,
    embed_dim: usize,
    num_heads: usize,
    /// The number of blocks of each stage.
    stages: Vec<usize>,
    /// The number of stages that begin with a pooling.
    q_pool: usize,
    /// The divisors of frames, height and width in a pooling.
    q_stride: [usize; 3],
    /// Frames, height and width of a mask unit, in tokens.
    mask_unit_size: [usize; 3],
    /// Whether each stage attends within mask units.
    mask_unit_attn: Vec<bool>,
    dim_mul: f64,
    head_mul: f64,
    patch_kernel: [usize; 3],
    patch_stride: [usize; 3],
    patch_padding: [usize; 3],
    mlp_ratio: f64,
    /// Whether positions in space and in time are learned separately.
    sep_pos_embed: bool,
    #[serde(default = "layer_norm")]
    norm_layer: String,
}

fn three() -> usize {
    CHANNELS
}

fn layer_norm() -> String {
    "LayerNorm".to_owned()
}

/// The sizes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlan {
    /// The width of the input.
    pub input: usize,
    /// The width of the output.
    pub output: usize,
    /// The number of attention heads.
    pub heads: usize,
    /// The number of queries that are pooled into one.
    pub pooled: usize,
    /// The number of input tokens that attend to each other; all of them without mask units.
    pub window: usize,
    /// The number of input tokens.
    pub tokens: usize,
    /// The width of the MLP.
    pub hidden: usize,
}

fn product(sizes: [usize; 3]) -> usize {
    sizes.iter().product()
}

fn divided(sizes: [usize; 3], by: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|i| sizes[i] / by[i])
}

impl Config {
    /// Returns the config of `hiera_base_16x224`, `hiera_base_plus_16x224` or `hiera_large_16x224`.
    pub fn published(size: &Size) -> Self {
        Self {
            input_size: [16, 224, 224],
            in_chans: CHANNELS,
            embed_dim: size.embed_dim,
            num_heads: size.num_heads,
            stages: size.stages.to_vec(),
            q_pool: 3,
            q_stride: [1, 2, 2],
            mask_unit_size: [1, 8, 8],
            mask_unit_attn: vec![true, true, false, false],
            dim_mul: 2.0,
            head_mul: 2.0,
            patch_kernel: [3, 7, 7],
            patch_stride: [2, 4, 4],
            patch_padding: [1, 3, 3],
            mlp_ratio: 4.0,
            sep_pos_embed: true,
            norm_layer: layer_norm(),
        }
    }

    /// Checks the config.
    ///
    /// # Errors
    ///
    /// When a size is out of range or does not divide another one that it must divide.
    pub fn check(&self) -> Result<()> {
        within(
            MAX_SIZE,
            &[("embed_dim", self.embed_dim), ("num_heads", self.num_heads)],
        )?;
        for (name, sizes) in [
            ("input_size", self.input_size),
            ("q_stride", self.q_stride),
            ("mask_unit_size", self.mask_unit_size),
            ("patch_kernel", self.patch_kernel),
            ("patch_stride", self.patch_stride),
        ] {
            within(MAX_IMAGE, &sizes.map(|size| (name, size)))?;
        }
        let deep = self.stages.len() <= 16 && self.stages.iter().all(|&blocks| blocks > 0);
        require(
            !self.stages.is_empty() && deep && self.depth() <= MAX_LAYERS,
            || {
                format!(
                    "expected 1 to 16 stages with at least 1 block each and at most {MAX_LAYERS} in all, found {:?}",
                    self.stages
                )
            },
        )?;
        require(self.in_chans == CHANNELS, || {
            format!(
                "expected {CHANNELS} channels, found `in_chans` {}",
                self.in_chans
            )
        })?;
        require(self.norm_layer == layer_norm(), || {
            format!(
                "expected `norm_layer` LayerNorm, found `{}`",
                self.norm_layer
            )
        })?;
        require(self.mask_unit_attn.len() >= self.stages.len(), || {
            format!(
                "expected `mask_unit_attn` for {} stages, found {}",
                self.stages.len(),
                self.mask_unit_attn.len()
            )
        })?;
        require(self.q_pool < self.stages.len(), || {
            format!(
                "expected fewer poolings than stages ({}), found `q_pool` {}",
                self.stages.len(),
                self.q_pool
            )
        })?;
        let [_, height, width] = self.input_size;
        require(height == width, || {
            format!("expected square frames, found {height}x{width}")
        })?;
        // The convolution must have one output per token: positions are added to them.
        let outputs: [usize; 3] = std::array::from_fn(|i| {
            let padded = self.input_size[i] + 2 * self.patch_padding[i].min(MAX_IMAGE);
            padded.saturating_sub(self.patch_kernel[i]) / self.patch_stride[i]
                + usize::from(padded >= self.patch_kernel[i])
        });
        require(outputs == self.tokens(), || {
            format!(
                "expected patch settings that result in {:?} tokens, found {outputs:?}",
                self.tokens()
            )
        })?;
        // Tables of this length are allocated before the weights are checked.
        within(MAX_SIZE, &[("input_size", product(self.tokens()))])?;
        let mut pooling = [1; 3];
        for _ in 1..self.stages.len() {
            pooling = std::array::from_fn(|i| pooling[i] * self.q_stride[i].min(MAX_IMAGE));
            require(
                (0..3).all(|i| self.tokens()[i].is_multiple_of(pooling[i])),
                || {
                    format!(
                        "expected `q_stride` {:?} to divide {:?} tokens once per stage",
                        self.q_stride,
                        self.tokens()
                    )
                },
            )?;
        }
        require(
            (0..3).all(|i| self.tokens()[i].is_multiple_of(self.mask_unit_size[i]))
                && product(self.mask_unit_size)
                    .is_multiple_of(product(self.q_stride).saturating_pow(self.q_pool as u32)),
            || {
                format!(
                    "expected `mask_unit_size` to divide {:?} tokens and to be divisible by {} poolings, found {:?}",
                    self.tokens(),
                    self.q_pool,
                    self.mask_unit_size
                )
            },
        )?;
        for block in self.blocks() {
            within(
                MAX_SIZE,
                &[
                    ("embed_dim", block.output),
                    ("num_heads", block.heads),
                    ("mlp_ratio", block.hidden),
                ],
            )?;
            heads_divide(block.heads, block.output)?;
            require(block.pooled == 1 || block.input != block.output, || {
                "expected `dim_mul` to change the width where tokens are pooled".to_owned()
            })?;
        }
        Ok(())
    }

    /// Checks the requested clips.
    ///
    /// # Errors
    ///
    /// When the frames cannot be divided into groups, or another image size is requested than the one that
    /// the positions were learned for.
    pub fn check_clips(&self, num_frames: usize, image_size: Option<usize>) -> Result<()> {
        let frames = self.frames();
        let whole = num_frames > 0 && num_frames.is_multiple_of(frames);
        request::fits(whole, "num_frames", num_frames, || {
            format!("a multiple of {frames}, the number of frames that are encoded together")
        })?;
        only_size(self.image_size(), image_size)
    }

    /// Returns the number of frames that are encoded together.
    pub fn frames(&self) -> usize {
        self.input_size[0]
    }

    /// Returns the height and width of a frame, in pixels.
    pub fn image_size(&self) -> usize {
        self.input_size[1]
    }

    /// Returns the width of the first stage.
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// Returns the kernel, stride and padding of the patch embedding, over time, height and width.
    pub fn patches(&self) -> [[usize; 3]; 3] {
        [self.patch_kernel, self.patch_stride, self.patch_padding]
    }

    /// Returns whether positions in space and in time are learned separately.
    pub fn separate_positions(&self) -> bool {
        self.sep_pos_embed
    }

    /// Returns the number of tokens over time, height and width after the patch embedding.
    pub fn tokens(&self) -> [usize; 3] {
        divided(self.input_size, self.patch_stride)
    }

    /// Returns the number of tokens over time, height and width after the last stage.
    pub fn last_map(&self) -> [usize; 3] {
        (0..self.q_pool).fold(self.tokens(), |size, _| divided(size, self.q_stride))
    }

    /// Returns the strides that arrange tokens into mask units, and those that remain after the poolings.
    pub fn strides(&self) -> (Vec<[usize; 3]>, Vec<[usize; 3]>) {
        let all = self.stages.len() - 1;
        (
            vec![self.q_stride; all],
            vec![self.q_stride; all - self.q_pool],
        )
    }

    /// Returns the width of the last stage.
    pub fn width(&self) -> usize {
        self.blocks()
            .last()
            .map_or(self.embed_dim, |block| block.output)
    }

    fn depth(&self) -> usize {
        self.stages
            .iter()
            .fold(0, |sum, &blocks| sum.saturating_add(blocks))
    }

    /// Returns the sizes of every block, in order. The first block of a stage widens and pools, but attends
    /// like the previous stage (in the original: "lag by 1 block").
    pub fn blocks(&self) -> Vec<BlockPlan> {
        let stride = product(self.q_stride);
        let (mut width, mut heads) = (self.embed_dim, self.num_heads);
        let (mut unit, mut tokens) = (product(self.mask_unit_size), product(self.tokens()));
        let mut plans = Vec::with_capacity(self.depth());
        for (stage, &blocks) in self.stages.iter().enumerate() {
            for block in 0..blocks {
                let opens = stage > 0 && block == 0;
                let (input, mut pooled) = (width, 1);
                if opens {
                    width = (width as f64 * self.dim_mul) as usize;
                    heads = (heads as f64 * self.head_mul) as usize;
                    pooled = if stage <= self.q_pool { stride } else { 1 };
                    unit /= pooled;
                }
                let in_units = self.mask_unit_attn[stage - usize::from(opens)];
                plans.push(BlockPlan {
                    input,
                    output: width,
                    heads,
                    pooled,
                    window: if in_units { unit * pooled } else { tokens },
                    tokens,
                    hidden: (width as f64 * self.mlp_ratio) as usize,
                });
                tokens /= pooled;
            }
        }
        plans
    }

    /// Returns the number of parameters up to the feature map of the last stage.
    pub fn parameters(&self) -> u64 {
        let d = self.embed_dim as u128;
        let [times, rows, columns] = self.tokens();
        let positions = if self.sep_pos_embed {
            times + rows * columns
        } else {
            times * rows * columns
        };
        let kernel = (CHANNELS * product(self.patch_kernel)) as u128;
        let blocks = self.blocks().into_iter().map(|block| {
            let [i, o, h] = [block.input, block.output, block.hidden].map(|size| size as u128);
            let widening = if i == o { 0 } else { i * o + o };
            2 * i + 3 * o * (i + 1) + o * o + o + 2 * o + 2 * o * h + h + o + widening
        });
        clamped(kernel * d + d + positions as u128 * d + blocks.sum::<u128>())
    }

    /// Returns the multiply-accumulate operations for [`Self::frames`] frames.
    pub fn macs(&self) -> u64 {
        let kernel = CHANNELS * product(self.patch_kernel);
        let embedding = product(self.tokens()) as u128 * (kernel * self.embed_dim) as u128;
        let blocks = self.blocks().into_iter().map(|block| {
            let sizes = [block.input, block.output, block.hidden, block.tokens];
            let [i, o, h, n] = sizes.map(|size| size as u128);
            let (window, queries) = (block.window as u128, n / block.pooled as u128);
            let widening = if i == o { 0 } else { n * i * o };
            n * 3 * i * o + 2 * queries * window * o + queries * (o * o + 2 * o * h) + widening
        });
        clamped(embedding + blocks.sum::<u128>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The values are those of the original `hiera_base_16x224`.
    #[test]
    fn the_published_base_model_agrees_with_the_original() {
        let config = Config::published(&VARIANTS[0].model);
        config.check().unwrap();
        config.check_clips(16, Some(224)).unwrap();
        assert_eq!((config.last_map(), config.width()), ([8, 7, 7], 768));
        let blocks = config.blocks();
        let heads: Vec<_> = blocks.iter().map(|block| block.heads).collect();
        assert_eq!(heads[..6], [1, 1, 2, 2, 2, 4]);
        let windows: Vec<_> = blocks.iter().map(|block| block.window).collect();
        // Mask units of 64 tokens, then of 16. The pooling blocks still use those of the previous stage.
        assert_eq!(windows[..7], [64, 64, 64, 16, 16, 16, 1568]);
        assert_eq!(blocks[21].window, 1568);
        assert_eq!(blocks[22].window, 392);
    }

    #[test]
    fn invalid_sizes_are_refused() {
        let good = || Config::published(&VARIANTS[0].model);
        assert!(good().check_clips(24, None).is_err());
        assert!(good().check_clips(16, Some(192)).is_err());
        let changes: [fn(&mut Config); 11] = [
            |c| c.stages = vec![],
            |c| c.stages = vec![usize::MAX, 2, 3, 4],
            |c| c.q_pool = 4,
            |c| c.q_stride = [0, 2, 2],
            |c| c.q_stride = [1, 3, 3],
            |c| c.mask_unit_size = [1, 5, 5],
            |c| c.mask_unit_attn = vec![],
            |c| c.patch_padding = [usize::MAX; 3],
            |c| c.patch_stride = [3, 4, 4],
            |c| c.dim_mul = 1.0,
            |c| c.head_mul = 0.0,
        ];
        for change in changes {
            let mut config = good();
            change(&mut config);
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
