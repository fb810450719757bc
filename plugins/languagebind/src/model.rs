//! LanguageBind's video tower (arXiv 2310.01852): CLIP's vision transformer with attention over time
//! before the attention over space, in every layer. Agrees with `hidden_states[-2]` of
//! `CLIPVisionTransformer` in `languagebind/video/modeling_video.py`.
//!
//! `LanguageBind_Video_merge` and `LanguageBind_Video_FT` contain merged weights. `LanguageBind_Video`
//! contains separate low-rank adapters of the attention over time (LoRA, arXiv 2106.09685), with the names
//! that peft uses. Their output is added to that of their layers.

use candle_core::Tensor;
use merv_plugin_api::{
    Clips, Encoder, EncoderInfo, ReadyGradients, TensorBuf, TensorView, TrainableEncoder,
};
use merv_plugin_sdk::{
    Result,
    architectures::languagebind::{self, ADAPTER, BASE_LAYER, Config},
    checkpoint::Mapping,
    config::CHANNELS,
    gradients::{Parameter, Parameters, add_repeated, reshape, swap_rows},
    layers::{
        attention::{SelfAttention, Sequences},
        block::Block,
        linear::Linear,
        mlp::Mlp,
        norm::LayerNorm,
        patch::PatchEmbed,
        position::TokenEmbedding,
    },
    models::{
        ClipTape,
        frame_tokens::{FrameTokens, encode_frames},
    },
    precision::Precision,
    trainable,
    weights::Scope,
};

/// A layer: attention over time, followed by CLIP's own block over space.
struct Layer {
    /// The positions in time. Absent for groups of a single frame, as in the original.
    temporal_embedding: Option<Parameter>,
    temporal_norm: LayerNorm,
    temporal_attention: SelfAttention,
    spatial: Block,
}

impl Layer {
    fn new(config: &Config, scope: &Scope<'_>) -> Result<Self> {
        let (d, t) = (config.hidden_size, config.num_frames);
        let norm = |name| LayerNorm::new(d, config.layer_norm_eps, &scope.pp(name));
        let embedding = scope.small_parameter("temporal_embedding", &[1, t, d]);
        Ok(Self {
            temporal_embedding: (t > 1).then_some(embedding),
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

    /// `[t · n, width]` → `[t · n, width]`, for `t` frames of `n` tokens
    fn forward(&self, x: &Tensor, t: usize, n: usize) -> Result<Tensor> {
        let x = match &self.temporal_embedding {
            Some(embedding) => add_repeated(x, embedding, n)?,
            None => x.clone(),
        };
        let normed = self.temporal_norm.forward(&x)?;
        let attended = self
            .temporal_attention
            .attend(&normed, Sequences::over_time(1, t, n))?;
        let attended = swap_rows(&attended, n, t)?;
        let x = self.temporal_attention.project_added(&attended, &x, None)?;
        self.spatial.forward(&x, t, n)
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

/// Loads a projection, with its adapter if the file contains one.
fn projection(config: &Config, scope: &Scope<'_>) -> Linear {
    let d = config.hidden_size;
    let is_wrapped = scope.contains(&format!("{BASE_LAYER}.weight"));
    let base = scope.below(is_wrapped.then_some(BASE_LAYER));
    let linear = Linear::new(d, d, true, &base);
    let [down, up] = ADAPTER;
    match scope.shape(down) {
        // The file determines the rank. The rest of the shape is checked when the tensor is loaded.
        Some(&[rank, _]) if rank > 0 => {
            // Adapters stay in `f32`: they take little time, and their outputs can be much larger than their
            // weights.
            let exact = scope.clone().in_precision(Precision::F32);
            linear.adapted(
                exact.parameter(down, &[rank, d]),
                exact.parameter(up, &[d, rank]),
                (config.lora_alpha / rank as f64) as f32,
            )
        }
        _ => linear,
    }
}

/// The loaded video tower.
pub struct LanguageBind {
    patch_embed: PatchEmbed,
    embedding: TokenEmbedding,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    choice: FrameTokens,
    config: Config,
    info: EncoderInfo,
    parameters: Parameters,
    /// The mapped weight files. Their pages are released after each call, so that models that run in turn
    /// are not all in memory at the same time.
    mapping: Mapping,
}

trainable!(LanguageBind, parameters);

impl LanguageBind {
    /// Loads the tower from `scope`, the root of the published file.
    ///
    /// # Errors
    ///
    /// When the sizes are invalid.
    pub fn new(
        config: &Config,
        choice: FrameTokens,
        info: EncoderInfo,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let (d, vision) = (config.hidden_size, scope.pp("vision_model"));
        let embeddings = vision.pp("embeddings");
        let layers = vision.pp(languagebind::layers(|name| vision.contains(name)));
        // If the unused last layer is missing, the file belongs to a smaller model.
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
            embedding: TokenEmbedding::placed(
                vec![embeddings.small_parameter("class_embedding", &[d])],
                embeddings.small_parameter("position_embedding.weight", &[config.tokens(), d]),
                d,
            ),
            // The original misspells the name.
            pre_norm: LayerNorm::new(d, config.layer_norm_eps, &vision.pp("pre_layrnorm")),
            layers: (0..config.used_layers())
                .map(|index| Layer::new(config, &layers.pp(index)))
                .collect::<Result<_>>()?,
            choice,
            config: config.clone(),
            info,
            parameters: scope.parameters(),
            mapping: scope.mapping(),
        })
    }

    /// `[t, 3, size, size]` → `[t, tokens, width]`, for one group of frames that attend to each other
    fn forward(&self, frames: &[f32]) -> Result<Tensor> {
        let (d, n, size) = (
            self.config.hidden_size,
            self.config.tokens(),
            self.config.image_size,
        );
        let t = frames.len() / (CHANNELS * size * size);
        let patches = self.patch_embed.forward(frames, size)?;
        let mut x = self.pre_norm.forward(&self.embedding.forward(&patches)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, t, n)?;
        }
        reshape(&x, (t, n, d))
    }
}

impl Encoder for LanguageBind {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf> {
        let (group, choice) = (self.config.num_frames, self.choice);
        let features = encode_frames(&clips.pixels, &self.info, group, choice, 1, |frames| {
            self.forward(frames)
        });
        self.mapping.release();
        features
    }
}

impl TrainableEncoder for LanguageBind {
    type Tape = ClipTape;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, ClipTape)> {
        self.parameters.options()?;
        let (group, choice) = (self.config.num_frames, self.choice);
        let mut tape = ClipTape::default();
        let features = encode_frames(&clips.pixels, &self.info, group, choice, 1, |frames| {
            tape.record(|| self.forward(frames))
        })?;
        Ok((features, tape))
    }

    fn backward(
        &self,
        tape: ClipTape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<()> {
        tape.backward_frames(&self.info, self.choice, 1, gradient)?;
        self.parameters.all_ready(ready)
    }
}
