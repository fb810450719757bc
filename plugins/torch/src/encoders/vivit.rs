//! ViViT, model 1 (arXiv 2103.15691): one transformer over all tubelets of a clip. Agrees with the `last_hidden_state` of
//! `VivitModel` in `transformers/models/vivit/modeling_vivit.py`.

use super::network::Network;
use crate::{
    failure::Result,
    layers::{Block, Conv, LayerNorm, Linear, Mlp, SelfAttention, TokenEmbedding},
    tensor::size,
    weights::Scope,
};
use merv_architectures::{
    config::CHANNELS,
    vivit::{self, ClipTokens, Config},
};
use merv_plugin_api::Call;
use tch::Tensor;

pub struct Vivit {
    tubelets: Conv,
    embedding: TokenEmbedding,
    layers: Vec<Block>,
    norm: LayerNorm,
    choice: ClipTokens,
    config: Config,
}

impl Vivit {
    /// Takes the weights from `scope`, with or without the classifier's prefix.
    pub fn new(config: Config, choice: ClipTokens, scope: &Scope<'_>) -> Result<Self> {
        let d = config.hidden_size;
        let scope = &scope.below(vivit::root(|name| scope.contains(name)));
        let embeddings = scope.pp("embeddings");
        let [tubelet, patch, _] = config.tubelet_size;
        let projection = embeddings.pp("patch_embeddings.projection");
        let layers = 0..config.num_hidden_layers;
        Ok(Self {
            tubelets: Conv::patches(&[d, CHANNELS, tubelet, patch, patch], true, &projection),
            embedding: TokenEmbedding::placed(
                embeddings.vector("cls_token", &[1, 1, d]),
                embeddings.vector("position_embeddings", &[1, config.tokens(), d]),
            ),
            layers: layers
                .map(|index| layer(&config, &scope.pp("encoder.layer").pp(index)))
                .collect(),
            norm: LayerNorm::new(d, config.layer_norm_eps, &scope.pp("layernorm")),
            choice,
            config,
        })
    }

    /// Selects the tokens that become features.
    fn chosen(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.size3()?;
        let tubelets = || x.f_narrow(1, 1, tokens - 1);
        Ok(match self.choice {
            ClipTokens::All => x.shallow_clone(),
            ClipTokens::Class => x.f_narrow(1, 0, 1)?,
            ClipTokens::NoClass => tubelets()?,
            ClipTokens::EverySecond => {
                let steps = [batch, -1, size(self.config.spatial()), width];
                let steps = tubelets()?
                    .f_reshape(steps)?
                    .f_slice(1, 0, None::<i64>, 2)?;
                steps.f_flatten(1, 2)?
            }
        })
    }
}

impl Network for Vivit {
    fn group(&self) -> usize {
        self.config.num_frames
    }

    fn forward(&self, clips: &Tensor) -> Result<Tensor> {
        let tubelets = self.tubelets.forward(&clips.f_transpose(1, 2)?)?;
        let mut x = self.embedding.forward(&tubelets)?;
        for layer in &self.layers {
            Call::current().check()?;
            x = layer.forward(&x)?;
        }
        self.norm.forward(&self.chosen(&x)?)
    }
}

fn layer(config: &Config, scope: &Scope<'_>) -> Block {
    let (d, h) = (config.hidden_size, config.intermediate_size);
    let attention = scope.pp("attention");
    let project = |name| Linear::new(d, d, config.qkv_bias, &attention.pp("attention").pp(name));
    let norm = |name| LayerNorm::new(d, config.layer_norm_eps, &scope.pp(name));
    Block {
        norm1: norm("layernorm_before"),
        attention: SelfAttention::separate(
            [project("query"), project("key"), project("value")],
            Linear::new(d, d, true, &attention.pp("output.dense")),
            config.num_attention_heads,
        ),
        scale1: None,
        norm2: norm("layernorm_after"),
        mlp: Mlp::from_parts(
            Linear::new(d, h, true, &scope.pp("intermediate.dense")),
            Linear::new(h, d, true, &scope.pp("output.dense")),
            config.hidden_act,
        ),
        scale2: None,
    }
}
