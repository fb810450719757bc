//! LanguageBind's video tower (arXiv 2310.01852): CLIP's vision transformer with attention over time
//! before the attention over space, in every layer. Agrees with `CLIPVisionTransformer` of
//! `languagebind/video/modeling_video.py`, `hidden_states[-2]`, without the class token.

use crate::config::Config;
use candle_core::Tensor;
use merv_plugin_api::{Encoder, EncoderInfo, TensorBuf, TensorView};
use merv_plugin_sdk::{
    Result,
    attention::{SelfAttention, Sequences},
    block::Block,
    features::encode_in_groups,
    linear::Linear,
    mlp::Mlp,
    norm::LayerNorm,
    patch::{CHANNELS, PatchEmbed},
    tensor::{from_vec, with_slice},
    weights::Scope,
};

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
    let linear = |name| Linear::new(d, d, true, &scope.pp(name));
    SelfAttention::separate(
        [linear("q_proj"), linear("k_proj"), linear("v_proj")],
        linear("out_proj"),
        config.num_attention_heads,
        d,
    )
}

/// The loaded tower.
pub struct LanguageBind {
    patch_embed: PatchEmbed,
    class: Vec<f32>,
    /// `[tokens, width]`
    positions: Vec<f32>,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    config: Config,
    info: EncoderInfo,
}

impl LanguageBind {
    /// Takes the tower from `scope`, the root of the published file.
    ///
    /// # Errors
    ///
    /// When the sizes make no model.
    pub fn new(config: &Config, info: EncoderInfo, scope: &Scope<'_>) -> Result<Self> {
        let (d, vision) = (config.hidden_size, scope.pp("vision_model"));
        let embeddings = vision.pp("embeddings");
        let layers = vision.pp("encoder").pp("layers");
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
            config: config.clone(),
            info,
        })
    }

    /// `[t, 3, size, size]` → `[t, patches, width]`: one group of frames that attend to each other.
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
        Ok(x.narrow(1, 1, n - 1)?.contiguous()?)
    }
}

impl Encoder for LanguageBind {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf> {
        encode_in_groups(clips, &self.info, self.config.num_frames, |frames| {
            self.forward(frames)
        })
    }
}
