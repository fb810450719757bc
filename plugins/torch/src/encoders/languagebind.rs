//! LanguageBind's video tower (arXiv 2310.01852): CLIP's vision transformer with attention over time before the attention
//! over space, in every layer. Agrees with `hidden_states[-2]` of `CLIPVisionTransformer` in
//! `languagebind/video/modeling_video.py`.

use super::{frame_tokens::arranged, network::Network};
use crate::{
    failure::Result,
    layers::{Block, Conv, LayerNorm, Linear, Mlp, SelfAttention, TokenEmbedding},
    tensor::size,
    weights::Scope,
};
use merv_architectures::{
    config::CHANNELS,
    frame_tokens::FrameTokens,
    languagebind::{self, ADAPTER, BASE_LAYER, Config},
};
use merv_plugin_api::Call;
use tch::Tensor;

/// A layer: attention over time, followed by CLIP's own block over space.
struct Layer {
    /// The positions in time, `[1, t, width]`. Absent for groups of a single frame, as in the original.
    temporal_embedding: Option<Tensor>,
    temporal_norm: LayerNorm,
    temporal_attention: SelfAttention,
    spatial: Block,
}

impl Layer {
    fn new(config: &Config, scope: &Scope<'_>) -> Self {
        let (d, t) = (config.hidden_size, config.num_frames);
        let norm = |name| LayerNorm::new(d, config.layer_norm_eps, &scope.pp(name));
        let embedding = scope.vector("temporal_embedding", &[1, t, d]);
        let mlp = scope.pp("mlp");
        Self {
            temporal_embedding: (t > 1).then_some(embedding),
            temporal_norm: norm("temporal_layer_norm1"),
            temporal_attention: attention(config, &scope.pp("temporal_attn")),
            spatial: Block {
                norm1: norm("layer_norm1"),
                attention: attention(config, &scope.pp("self_attn")),
                scale1: None,
                norm2: norm("layer_norm2"),
                mlp: Mlp::new(d, config.intermediate_size, config.hidden_act, &mlp),
                scale2: None,
            },
        }
    }

    /// `[frames, tokens, width]` → the same, for groups of `t` frames
    fn forward(&self, x: &Tensor, t: i64) -> Result<Tensor> {
        let (frames, tokens, width) = x.size3()?;
        // Each token over time: `[groups · tokens, t, width]`.
        let mut over_time = x
            .f_view([frames / t, t, tokens, width])?
            .f_transpose(1, 2)?
            .f_reshape([-1, t, width])?;
        if let Some(embedding) = &self.temporal_embedding {
            over_time = over_time.f_add(embedding)?;
        }
        let normed = self.temporal_norm.forward(&over_time)?;
        let over_time = over_time.f_add(&self.temporal_attention.forward(&normed)?)?;
        let x = over_time
            .f_view([frames / t, tokens, t, width])?
            .f_transpose(1, 2)?
            .f_reshape([frames, tokens, width])?;
        self.spatial.forward(&x)
    }
}

fn attention(config: &Config, scope: &Scope<'_>) -> SelfAttention {
    let linear = |name: &str| projection(config, &scope.pp(name));
    SelfAttention::separate(
        [linear("q_proj"), linear("k_proj"), linear("v_proj")],
        linear("out_proj"),
        config.num_attention_heads,
    )
}

/// Takes a projection, with its adapter if the file contains one.
fn projection(config: &Config, scope: &Scope<'_>) -> Linear {
    let d = config.hidden_size;
    let is_wrapped = scope.contains(&format!("{BASE_LAYER}.weight"));
    let base = scope.below(is_wrapped.then_some(BASE_LAYER));
    let linear = Linear::new(d, d, true, &base);
    let [down, up] = ADAPTER;
    match scope.shape(down) {
        // The file determines the rank. The rest of the shape is checked when the tensor is taken.
        Some(&[rank, _]) if rank > 0 => {
            // The outputs of adapters can be much larger than their weights, so they stay in `f32`.
            let exact = scope.exact();
            linear.adapted(
                &exact.matrix(down, &[rank, d]),
                &exact.matrix(up, &[d, rank]),
                config.lora_alpha / rank as f64,
            )
        }
        _ => linear,
    }
}

pub struct LanguageBind {
    patches: Conv,
    embedding: TokenEmbedding,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    choice: FrameTokens,
    /// The number of frames that attend to each other.
    group: usize,
}

impl LanguageBind {
    /// Takes the weights from `scope`, the root of the published file.
    pub fn new(config: &Config, choice: FrameTokens, scope: &Scope<'_>) -> Result<Self> {
        let (d, patch) = (config.hidden_size, config.patch_size);
        let vision = scope.pp("vision_model");
        let embeddings = vision.pp("embeddings");
        let layers = vision.pp(languagebind::layers(|name| vision.contains(name)));
        // If the unused last layer is missing, the file belongs to a smaller model.
        layers
            .pp(config.used_layers())
            .require("layer_norm1.weight");
        let kernel = [d, CHANNELS, patch, patch];
        Ok(Self {
            patches: Conv::patches(&kernel, false, &embeddings.pp("patch_embedding")),
            embedding: TokenEmbedding::placed(
                embeddings.vector("class_embedding", &[d]),
                embeddings.vector("position_embedding.weight", &[config.tokens(), d]),
            ),
            // The original misspells the name.
            pre_norm: LayerNorm::new(d, config.layer_norm_eps, &vision.pp("pre_layrnorm")),
            layers: (0..config.used_layers())
                .map(|index| Layer::new(config, &layers.pp(index)))
                .collect(),
            choice,
            group: config.num_frames,
        })
    }
}

impl Network for LanguageBind {
    fn group(&self) -> usize {
        self.group
    }

    fn forward(&self, clips: &Tensor) -> Result<Tensor> {
        let batch = clips.size5()?.0;
        let patches = self.patches.forward(&clips.f_flatten(0, 1)?)?;
        let mut x = self.pre_norm.forward(&self.embedding.forward(&patches)?)?;
        for layer in &self.layers {
            Call::current().check()?;
            x = layer.forward(&x, size(self.group))?;
        }
        arranged(&x, batch, self.choice, 1)
    }
}
