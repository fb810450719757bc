//! ViViT, model 1 (arXiv 2103.15691): one transformer over all tubelets of a clip. Agrees with the
//! `last_hidden_state` of `VivitModel` in `transformers/models/vivit/modeling_vivit.py`.

use candle_core::Tensor;
use merv_plugin_api::{
    Clips, Encoder, EncoderInfo, ReadyGradients, TensorBuf, TensorView, TrainableEncoder,
};
use merv_plugin_sdk::{
    Result,
    architectures::vivit::{self, ClipTokens, Config},
    checkpoint::Mapping,
    gradients::{Parameters, choose_rows},
    layers::{
        attention::SelfAttention, block::Block, linear::Linear, mlp::Mlp, norm::LayerNorm,
        patch::PatchEmbed, position::TokenEmbedding,
    },
    models::{ClipTape, features::encode_in_groups},
    trainable,
    weights::Scope,
};

/// The loaded model.
pub struct Vivit {
    patch_embed: PatchEmbed,
    embedding: TokenEmbedding,
    layers: Vec<Block>,
    norm: LayerNorm,
    choice: ClipTokens,
    config: Config,
    info: EncoderInfo,
    parameters: Parameters,
    /// The mapped weight files. Their pages are released after each call, so that models that run in turn
    /// are not all in memory at the same time.
    mapping: Mapping,
}

trainable!(Vivit, parameters);

impl Vivit {
    /// Loads the model from `scope`, with or without the classifier's prefix `vivit`.
    ///
    /// # Errors
    ///
    /// When the sizes are invalid.
    pub fn new(
        config: &Config,
        choice: ClipTokens,
        info: EncoderInfo,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let d = config.hidden_size;
        let scope = scope.below(vivit::root(|name| scope.contains(name)));
        let embeddings = scope.pp("embeddings");
        let projection = embeddings.pp("patch_embeddings").pp("projection");
        let [tubelet, patch, _] = config.tubelet_size;
        Ok(Self {
            patch_embed: PatchEmbed::new_3d(tubelet, patch, d, &projection),
            embedding: TokenEmbedding::placed(
                vec![embeddings.small_parameter("cls_token", &[1, 1, d])],
                embeddings.small_parameter("position_embeddings", &[1, config.tokens(), d]),
                d,
            ),
            layers: (0..config.num_hidden_layers)
                .map(|index| layer(config, &scope.pp("encoder").pp("layer").pp(index)))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(d, config.layer_norm_eps, &scope.pp("layernorm")),
            choice,
            config: config.clone(),
            info,
            parameters: scope.parameters(),
            mapping: scope.mapping(),
        })
    }

    /// `[frames, 3, size, size]` → `[features, width]`
    fn forward(&self, frames: &[f32]) -> Result<Tensor> {
        let n = self.config.tokens();
        let tubelets = self.patch_embed.forward(frames, self.config.image_size)?;
        let mut x = self.embedding.forward(&tubelets)?;
        for layer in &self.layers {
            x = layer.forward(&x, 1, n)?;
        }
        self.norm.forward(&self.chosen(&x)?)
    }

    /// Selects the rows of the tokens that become features.
    fn chosen(&self, x: &Tensor) -> Result<Tensor> {
        let (n, step) = (self.config.tokens(), self.config.spatial());
        match self.choice {
            ClipTokens::All => Ok(x.clone()),
            ClipTokens::Class => choose_rows(x, 0..1),
            ClipTokens::NoClass => choose_rows(x, 1..n),
            ClipTokens::EverySecond => {
                choose_rows(x, (1..n).filter(|row| ((row - 1) / step).is_multiple_of(2)))
            }
        }
    }
}

fn layer(config: &Config, scope: &Scope<'_>) -> Result<Block> {
    let (d, h) = (config.hidden_size, config.intermediate_size);
    let attention = scope.pp("attention");
    let project = |name| Linear::new(d, d, config.qkv_bias, &attention.pp("attention").pp(name));
    let norm = |name| LayerNorm::new(d, config.layer_norm_eps, &scope.pp(name));
    Ok(Block {
        norm1: norm("layernorm_before"),
        attention: SelfAttention::separate(
            [project("query"), project("key"), project("value")],
            Linear::new(d, d, true, &attention.pp("output").pp("dense")),
            config.num_attention_heads,
            d,
        )?,
        scale1: None,
        norm2: norm("layernorm_after"),
        mlp: Mlp::from_parts(
            Linear::new(d, h, true, &scope.pp("intermediate").pp("dense")),
            Linear::new(h, d, true, &scope.pp("output").pp("dense")),
            config.hidden_act,
        ),
        scale2: None,
    })
}

impl Encoder for Vivit {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf> {
        let features = encode_in_groups(
            &clips.pixels,
            &self.info,
            self.config.num_frames,
            |frames| self.forward(frames),
        );
        self.mapping.release();
        features
    }
}

impl TrainableEncoder for Vivit {
    type Tape = ClipTape;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, ClipTape)> {
        self.parameters.options()?;
        let mut tape = ClipTape::default();
        let features = encode_in_groups(
            &clips.pixels,
            &self.info,
            self.config.num_frames,
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
        tape.backward(&self.info, gradient)?;
        self.parameters.all_ready(ready)
    }
}
