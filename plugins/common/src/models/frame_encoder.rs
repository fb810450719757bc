//! MERV's encoders for timm's vision transformers, SigLIP and DINOv2, which process one frame at a time.

use crate::{
    Result,
    gradients::{Parameters, choose_rows, reshape},
    layers::{attention_pool::AttentionPool, norm::LayerNorm},
    models::{
        ClipTape,
        frame_tokens::{FrameTokens, encode_frames},
        vit::Vit,
    },
    precision::Precision,
    weights::{self, Scope},
};
use candle_core::Tensor;
use merv_architectures::timm::{self, Pool, VitConfig, VitFeatures};
use merv_checkpoint::Mapping;
use merv_plugin_api::{
    Clips, Encoder, EncoderInfo, ReadyGradients, TensorBuf, TensorView, TrainableEncoder,
};
use std::path::PathBuf;

/// The number of frames that run through the blocks together. Their activations stay in the cache, and the
/// products are large enough for all cores.
const FRAMES_AT_ONCE: usize = 4;

/// timm's final norm and `global_pool`, which turn the tokens of a frame into one vector.
struct Head {
    norm: LayerNorm,
    /// `None` if the class token is the pooled vector.
    pool: Option<AttentionPool>,
    /// The number of tokens before the patches.
    prefix: usize,
}

impl Head {
    fn new(config: &VitConfig, scope: &Scope<'_>) -> Result<Self> {
        let (width, heads) = (config.embed_dim, config.num_heads);
        let pool = match config.pool {
            Pool::Token => None,
            Pool::Map => {
                let scope = scope.pp("attn_pool");
                let (hidden, activation) = (config.hidden(), config.activation);
                let epsilon = config.epsilon;
                Some(AttentionPool::new(
                    width, heads, hidden, activation, epsilon, &scope,
                )?)
            }
        };
        Ok(Self {
            norm: LayerNorm::new(width, config.epsilon, &scope.pp("norm")),
            pool,
            prefix: config.prefix(),
        })
    }

    /// `[frames, tokens, width]` → `[frames, 1, width]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (frames, tokens, width) = x.dims3()?;
        match &self.pool {
            Some(pool) if self.prefix == 0 => pool.forward(&self.norm.forward(x)?),
            // Only the patches are pooled.
            Some(pool) => {
                let rows = (0..frames * tokens).filter(|row| row % tokens >= self.prefix);
                let patches = tokens.saturating_sub(self.prefix);
                let x = reshape(&choose_rows(x, rows)?, (frames, patches, width))?;
                pool.forward(&self.norm.forward(&x)?)
            }
            None => {
                let first = choose_rows(x, (0..frames).map(|frame| frame * tokens))?;
                self.norm.forward(&reshape(&first, (frames, 1, width))?)
            }
        }
    }
}

/// An encoder whose features are tokens of the last block but one, without the final norm, or one pooled
/// vector for each frame.
pub struct FrameEncoder {
    vit: Vit,
    head: Option<Head>,
    choice: FrameTokens,
    info: EncoderInfo,
    parameters: Parameters,
    /// The files of the weights. Their pages are released after each call, so that models that run in turn
    /// are not all in memory.
    mapping: Mapping,
}

impl FrameEncoder {
    /// Loads the weights from timm's or open_clip's files. `unused` lists further tensors of the tower that
    /// are not needed.
    ///
    /// # Errors
    ///
    /// When the weights do not fit.
    pub fn load(
        paths: &[PathBuf],
        unused: &[&str],
        config: &VitConfig,
        features: VitFeatures,
        info: EncoderInfo,
    ) -> Result<Self> {
        let blocks = features.blocks(config);
        let unused = timm::unused(config, features, unused);
        let unused: Vec<&str> = unused.iter().map(String::as_str).collect();
        weights::load(paths, &unused, |scope| {
            let scope = scope.in_precision(Precision::of(info.dtype));
            let scope = scope.below(timm::root(|name| scope.contains(name)));
            // A file without the last block belongs to a smaller model.
            let last = scope.pp("blocks").pp(config.depth - 1);
            last.require("norm1.weight");
            Ok(Self {
                vit: Vit::new(config, info.image_size() as usize, blocks, &scope)?,
                head: (features == VitFeatures::Pooled)
                    .then(|| Head::new(config, &scope))
                    .transpose()?,
                choice: features.choice(),
                info,
                parameters: scope.parameters(),
                mapping: scope.mapping(),
            })
        })
    }

    /// Returns the number of frames that run through the blocks together.
    fn group(&self) -> usize {
        let frames = self.info.num_frames as usize;
        (1..=FRAMES_AT_ONCE.min(frames))
            .rev()
            .find(|&group| frames.is_multiple_of(group))
            .unwrap_or(1)
    }

    /// Returns the number of tokens before the patches. A pooled frame is one token.
    fn prefix(&self) -> usize {
        match self.head {
            Some(_) => 1,
            None => self.vit.config().prefix(),
        }
    }

    /// `[frames, 3, size, size]` → `[frames, tokens, width]`
    fn forward(&self, frames: &[f32]) -> Result<Tensor> {
        let tokens = self.vit.forward(frames)?;
        match &self.head {
            Some(head) => head.forward(&tokens),
            None => Ok(tokens),
        }
    }
}

crate::trainable!(FrameEncoder, parameters);

impl TrainableEncoder for FrameEncoder {
    type Tape = ClipTape;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, ClipTape)> {
        self.parameters.options()?;
        let (group, prefix) = (self.group(), self.prefix());
        let mut tape = ClipTape::default();
        let features = encode_frames(
            &clips.pixels,
            &self.info,
            group,
            self.choice,
            prefix,
            |frames| tape.record(|| self.forward(frames)),
        )?;
        Ok((features, tape))
    }

    fn backward(
        &self,
        tape: ClipTape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<()> {
        tape.backward_frames(&self.info, self.choice, self.prefix(), gradient)?;
        self.parameters.all_ready(ready)
    }
}

impl Encoder for FrameEncoder {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf> {
        let (group, prefix) = (self.group(), self.prefix());
        let features = encode_frames(
            &clips.pixels,
            &self.info,
            group,
            self.choice,
            prefix,
            |frames| self.forward(frames),
        );
        self.mapping.release();
        features
    }
}
