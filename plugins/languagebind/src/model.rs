//! LanguageBind's video tower (arXiv 2310.01852): CLIP's vision transformer with attention over time
//! before the attention over space, in every layer. Agrees with `CLIPVisionTransformer` of
//! `languagebind/video/modeling_video.py`, `hidden_states[-2]`.
//!
//! `LanguageBind_Video_merge` and `LanguageBind_Video_FT` hold plain weights. `LanguageBind_Video` holds
//! the low-rank adapters of the attention over time apart (LoRA, arXiv 2106.09685), under the names that
//! peft gives; they are applied beside their layers.

use crate::config::Config;
use candle_core::Tensor;
use merv_plugin_api::{Encoder, EncoderInfo, TensorBuf, TensorView};
use merv_plugin_sdk::{
    Result,
    attention::{SelfAttention, Sequences},
    block::Block,
    frame_tokens::{FrameTokens, encode_frames},
    linear::Linear,
    mlp::Mlp,
    norm::LayerNorm,
    patch::{CHANNELS, PatchEmbed},
    tensor::{from_vec, with_slice},
    weights::Scope,
};

/// Where the layers are in the file.
pub const LAYERS: &str = "encoder";

/// Where they are when peft has wrapped the encoder.
pub const ADAPTED_LAYERS: &str = "encoder.base_model.model";

/// One layer: attention over time, then CLIP's own block over space.
struct Layer {
    temporal_embedding: Tensor,
    temporal_norm: LayerNorm,
    temporal_attention: SelfAttention,
    spatial: Block,
}

impl Layer {
    fn new(config: &Config, scope: &Scope<'_>) -> Result<Self> {
        let (d, t) = (config.hidden_size, config.num_frames);
        let norm = |name| LayerNorm::new(d, config.layer_norm_eps, &scope.pp(name));
        // A single frame has no position in time, and upstream then leaves the embedding out.
        let embedding = scope.vector("temporal_embedding", &[1, t, d]);
        let embedding = if t == 1 { vec![0.0; d] } else { embedding };
        Ok(Self {
            temporal_embedding: from_vec(embedding, (t, 1, d))?,
            temporal_norm: norm("temporal_layer_norm1"),
            temporal_attention: attention(config, &scope.pp("temporal_attn"))?,
            spatial: Block {
                norm1: norm("layer_norm1"),
                attention: attention(config, &scope.pp("self_attn"))?,
                scale1: None,
                norm2: norm("layer_norm2"),
                mlp: Mlp::new(
                    d,
                    config.intermediate_size,
                    config.hidden_act,
                    &scope.pp("mlp"),
                ),
                scale2: None,
            },
        })
    }

    /// `[t, n, width]` → the same, `t` frames of `n` tokens
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (t, n, d) = x.dims3()?;
        let x = x.broadcast_add(&self.temporal_embedding)?;
        let normed = self.temporal_norm.forward(&x)?;
        let attended = self
            .temporal_attention
            .attend(&normed, Sequences::over_time(1, t, n))?;
        let attended = attended.reshape((n, t, d))?.transpose(0, 1)?.contiguous()?;
        let x = self.temporal_attention.project_added(&attended, &x, None)?;
        Ok(self.spatial.forward(&x, t, n)?.reshape((t, n, d))?)
    }
}

fn attention(config: &Config, scope: &Scope<'_>) -> Result<SelfAttention> {
    let d = config.hidden_size;
    let linear = |name: &str| projection(config, &scope.pp(name));
    SelfAttention::separate(
        [linear("q_proj"), linear("k_proj"), linear("v_proj")],
        linear("out_proj"),
        config.num_attention_heads,
        d,
    )
}

/// A projection, with its adapter where the file has one.
fn projection(config: &Config, scope: &Scope<'_>) -> Linear {
    let d = config.hidden_size;
    // Newer versions of peft move the layer itself below `base_layer`.
    let base = if scope.contains("base_layer.weight") {
        scope.pp("base_layer")
    } else {
        scope.clone()
    };
    let linear = Linear::new(d, d, true, &base);
    let (down, up) = ("lora_A.default.weight", "lora_B.default.weight");
    match scope.shape(down) {
        // The rank is the file's; whether the rest of the shape fits is checked when it is taken.
        Some(&[rank, _]) if rank > 0 => linear.adapted(
            scope.matrix(down, &[rank, d]),
            scope.matrix(up, &[d, rank]),
            (config.lora_alpha / rank as f64) as f32,
        ),
        _ => linear,
    }
}

/// The loaded tower.
pub struct LanguageBind {
    patch_embed: PatchEmbed,
    class: Vec<f32>,
    /// `[tokens, width]`
    positions: Vec<f32>,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    choice: FrameTokens,
    config: Config,
    info: EncoderInfo,
}

impl LanguageBind {
    /// Takes the tower from `scope`, the root of the published file.
    ///
    /// # Errors
    ///
    /// When the sizes make no model.
    pub fn new(
        config: &Config,
        choice: FrameTokens,
        info: EncoderInfo,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let (d, vision) = (config.hidden_size, scope.pp("vision_model"));
        let embeddings = vision.pp("embeddings");
        let adapted = vision.pp(ADAPTED_LAYERS).pp("layers");
        let layers = if adapted.contains("0.layer_norm1.weight") {
            adapted
        } else {
            vision.pp(LAYERS).pp("layers")
        };
        // Without the layer that is not used the file would be that of a smaller model.
        layers
            .pp(config.used_layers())
            .require("layer_norm1.weight");
        Ok(Self {
            patch_embed: PatchEmbed::new_2d(
                config.patch_size,
                d,
                false,
                &embeddings.pp("patch_embedding"),
            ),
            class: embeddings.vector("class_embedding", &[d]),
            positions: embeddings.vector("position_embedding.weight", &[config.tokens(), d]),
            // Upstream's own spelling.
            pre_norm: LayerNorm::new(d, config.layer_norm_eps, &vision.pp("pre_layrnorm")),
            layers: (0..config.used_layers())
                .map(|index| Layer::new(config, &layers.pp(index)))
                .collect::<Result<_>>()?,
            choice,
            config: config.clone(),
            info,
        })
    }

    /// `[t, 3, size, size]` → `[t, tokens, width]`: one group of frames that attend to each other.
    fn forward(&self, frames: &[f32]) -> Result<Tensor> {
        let (d, n, size) = (
            self.config.hidden_size,
            self.config.tokens(),
            self.config.image_size,
        );
        let t = frames.len() / (CHANNELS * size * size);
        let patches = self.patch_embed.forward(frames, size)?;
        let mut x = Vec::with_capacity(t * n * d);
        with_slice(&patches, |patches| {
            for frame in patches.chunks_exact((n - 1) * d) {
                let tokens = self.class.iter().chain(frame);
                x.extend(
                    tokens
                        .zip(&self.positions)
                        .map(|(token, position)| token + position),
                );
            }
            Ok(())
        })?;
        let mut x = self.pre_norm.forward(&from_vec(x, (t, n, d))?)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

impl Encoder for LanguageBind {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf> {
        let (group, choice) = (self.config.num_frames, self.choice);
        encode_frames(clips, &self.info, group, choice, 1, |frames| {
            self.forward(frames)
        })
    }
}
