//! The encoder that MERV makes of a timm vision transformer: its patch tokens.

use crate::{Result, features::encode_in_groups, timm::VitConfig, vit::Vit, weights};
use merv_plugin_api::{
    DType, Encoder, EncoderInfo, Interpolation, PreprocessSpec, ResizeDomain, TensorBuf, TensorView,
};
use std::path::PathBuf;

/// Frames that go through the blocks together: few enough that their activations stay in the cache,
/// enough that the products fill all cores.
const FRAMES_AT_ONCE: usize = 4;

/// An encoder whose features are the patch tokens of the last block but one, frame after frame,
/// without the final norm and without class and register tokens: what MERV takes from SigLIP and
/// DINOv2.
pub struct PatchTokens {
    vit: Vit,
    info: EncoderInfo,
}

impl PatchTokens {
    /// What such an encoder is.
    pub fn describe(
        config: &VitConfig,
        num_frames: u32,
        image_size: usize,
        mean: [f32; 3],
        std: [f32; 3],
    ) -> EncoderInfo {
        let blocks = config.depth - 1;
        EncoderInfo {
            width: config.embed_dim as u32,
            num_frames,
            image_size: image_size as u32,
            temporal: num_frames,
            spatial: config.grid(image_size).pow(2) as u32,
            preprocess: PreprocessSpec {
                image_size: image_size as u32,
                short_side: image_size as u32,
                interpolation: Interpolation::Bicubic,
                domain: ResizeDomain::PillowU8,
                mean,
                std,
            },
            dtype: DType::F32,
            parameters: config.parameters(blocks),
            macs_per_clip: u64::from(num_frames) * config.macs(image_size, blocks),
        }
    }

    /// Loads the weights of all blocks but the last; `unused` are names that the file may hold
    /// besides.
    ///
    /// # Errors
    ///
    /// When the weights do not fit.
    pub fn load(
        paths: &[PathBuf],
        unused: &[&str],
        config: &VitConfig,
        info: EncoderInfo,
    ) -> Result<Self> {
        let last = format!("blocks.{}.", config.depth - 1);
        let unused: Vec<&str> = unused.iter().copied().chain([last.as_str()]).collect();
        let vit = weights::load(paths, &unused, |scope| {
            scope
                .pp("blocks")
                .pp(config.depth - 1)
                .require("norm1.weight");
            Vit::new(config, info.image_size as usize, config.depth - 1, &scope)
        })?;
        Ok(Self { vit, info })
    }
}

impl Encoder for PatchTokens {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf> {
        let frames = self.info.num_frames as usize;
        let group = (1..=FRAMES_AT_ONCE.min(frames))
            .rev()
            .find(|&group| frames.is_multiple_of(group))
            .unwrap_or(1);
        let prefix = self.vit.config().prefix();
        encode_in_groups(clips, &self.info, group, |frames| {
            let tokens = self.vit.forward(frames)?;
            let patches = tokens.dim(1)? - prefix;
            Ok(tokens.narrow(1, prefix, patches)?.contiguous()?)
        })
    }
}
