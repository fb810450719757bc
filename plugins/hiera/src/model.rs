//! Hiera for video (arXiv 2306.00989). Agrees with the last intermediate result (`return_intermediates`) of
//! `Hiera` in `hiera/hiera.py`: the feature map of the last stage, without the final norm.

use crate::{
    patch::PatchEmbed,
    rows::{gather, pool, scatter},
};
use candle_core::Tensor;
use merv_plugin_api::{Clips, Encoder, EncoderInfo, TensorBuf};
use merv_plugin_sdk::{
    Result,
    activation::Activation,
    architectures::hiera::{BlockPlan, Config, EPSILON, order},
    checkpoint::Mapping,
    kernels::attention::{AttentionShape, BatchStride, Strided, attention},
    layers::{linear::Linear, mlp::Mlp, norm::LayerNorm},
    models::features::encode_in_groups,
    tensor::{from_vec, with_slice},
    weights::Scope,
};

/// A block: attention that may pool its queries, and an MLP, each on a residual branch.
struct Block {
    plan: BlockPlan,
    norm1: LayerNorm,
    qkv: Linear,
    output: Linear,
    /// Widens the residual stream.
    widening: Option<Linear>,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(plan: BlockPlan, scope: &Scope<'_>) -> Self {
        let (i, o) = (plan.input, plan.output);
        let linear =
            |name: &str, inputs, outputs| Linear::new(inputs, outputs, true, &scope.pp(name));
        Self {
            norm1: LayerNorm::new(i, EPSILON, &scope.pp("norm1")),
            qkv: linear("attn.qkv", i, 3 * o),
            output: linear("attn.proj", o, o),
            widening: (i != o).then(|| linear("proj", i, o)),
            norm2: LayerNorm::new(o, EPSILON, &scope.pp("norm2")),
            mlp: Mlp::new(o, plan.hidden, Activation::Gelu, &scope.pp("mlp")),
            plan,
        }
    }

    /// `[tokens, input]` → `[tokens / pooled, output]`, both in the order of [`order`]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let queries = self.plan.tokens / self.plan.pooled;
        let x = match &self.widening {
            Some(widening) => with_slice(&widening.forward(&normed)?, |wide| {
                from_vec(pool(wide, self.plan.pooled), (queries, self.plan.output))
            })?,
            None => x.clone(),
        };
        let attended = self.attend(&normed)?;
        let x = self.output.forward_added(&attended, &x, None)?;
        self.mlp.forward_added(&self.norm2.forward(&x)?, &x, None)
    }

    /// Computes the attention within mask units or between all tokens, without the output projection.
    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let BlockPlan {
            output: width,
            heads,
            pooled,
            window,
            tokens,
            ..
        } = self.plan;
        let (units, queries, row) = (tokens / window, tokens / pooled, 3 * width);
        let head_dim = width / heads;
        let shape = AttentionShape {
            batch: units,
            heads,
            kv_heads: heads,
            queries: window / pooled,
            keys: window,
            head_dim,
            causal: false,
        };
        let attended = with_slice(&self.qkv.forward(x)?, |qkv| {
            // A mask unit consists of every `units`-th token.
            let unit = |data, row: usize| Strided {
                data,
                position: units * row,
                head: head_dim,
                batch: BatchStride::plain(row),
            };
            let keys = unit(&qkv[width.min(qkv.len())..], row);
            let values = unit(&qkv[(2 * width).min(qkv.len())..], row);
            if pooled == 1 {
                return Ok(attention(unit(qkv, row), keys, values, shape));
            }
            let q: Vec<f32> = qkv
                .chunks_exact(row)
                .flat_map(|row| &row[..width])
                .copied()
                .collect();
            let q = pool(&q, pooled);
            Ok(attention(unit(&q, width), keys, values, shape))
        })?;
        let attended = from_vec(attended, (units, window / pooled, width))?;
        let attended = attended.transpose(0, 1)?.contiguous()?;
        Ok(attended.reshape((queries, width))?)
    }
}

/// The loaded model.
pub struct Hiera {
    patch_embed: PatchEmbed,
    /// `[tokens, width]`, row by row
    positions: Vec<f32>,
    /// The order of the tokens in the blocks.
    order: Vec<usize>,
    /// The order of the tokens after the last block.
    last_order: Vec<usize>,
    blocks: Vec<Block>,
    config: Config,
    info: EncoderInfo,
    /// The mapped weight files. Their pages are released after each call, so that models that run in turn
    /// are not all in memory at the same time.
    mapping: Mapping,
}

impl Hiera {
    /// Loads the model from `scope`.
    ///
    /// # Errors
    ///
    /// It does not return an error yet: `scope` collects the errors of tensors.
    pub fn new(config: Config, info: EncoderInfo, scope: &Scope<'_>) -> Result<Self> {
        let (all, left) = config.strides();
        let blocks = config.blocks().into_iter().enumerate();
        let width = config.embed_dim();
        Ok(Self {
            patch_embed: PatchEmbed::new(
                config.patches(),
                config.tokens(),
                width,
                &scope.pp("patch_embed.proj"),
            ),
            positions: positions(&config, scope),
            order: order(config.tokens(), &all),
            last_order: order(config.last_map(), &left),
            blocks: blocks
                .map(|(index, plan)| Block::new(plan, &scope.pp("blocks").pp(index)))
                .collect(),
            config,
            info,
            mapping: scope.mapping(),
        })
    }

    /// `[frames, 3, size, size]` → `[tokens of the last map, width]`
    fn forward(&self, frames: &[f32]) -> Result<Tensor> {
        let size = self.config.image_size();
        let width = self.config.embed_dim();
        let embedded = self.patch_embed.forward(frames, size)?;
        let mut x = with_slice(&embedded, |patches| {
            let sum: Vec<f32> = patches
                .iter()
                .zip(&self.positions)
                .map(|(patch, position)| patch + position)
                .collect();
            from_vec(gather(&sum, &self.order, width), (self.order.len(), width))
        })?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let width = self.info.width as usize;
        with_slice(&x, |x| {
            let rows = scatter(x, &self.last_order, width);
            from_vec(rows, (self.last_order.len(), width))
        })
    }
}

/// Returns the position embedding of every token, `[tokens, width]`: a learned one, or the sum of a learned
/// one in space and one in time.
fn positions(config: &Config, scope: &Scope<'_>) -> Vec<f32> {
    let ([times, rows, columns], width) = (config.tokens(), config.embed_dim());
    let places = rows * columns;
    if !config.separate_positions() {
        return scope.vector("pos_embed", &[1, times * places, width]);
    }
    let space = scope.vector("pos_embed_spatial", &[1, places, width]);
    let time = scope.vector("pos_embed_temporal", &[1, times, width]);
    time.chunks_exact(width)
        .flat_map(|time| {
            space
                .chunks_exact(width)
                .flat_map(move |place| place.iter().zip(time).map(|(place, time)| place + time))
        })
        .collect()
}

impl Encoder for Hiera {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf> {
        let features =
            encode_in_groups(&clips.pixels, &self.info, self.config.frames(), |frames| {
                self.forward(frames)
            });
        self.mapping.release();
        features
    }
}
