//! Hiera for video (arXiv 2306.00989). Agrees with the last intermediate result (`return_intermediates`) of `Hiera` in
//! `hiera/hiera.py`: the feature map of the last stage, without the final norm.

use super::network::Network;
use crate::{
    failure::Result,
    layers::{Conv, LayerNorm, Linear, Mlp, attend},
    tensor::size,
    weights::Scope,
};
use merv_architectures::{
    activation::Activation,
    config::CHANNELS,
    hiera::{self, BlockPlan, Config, EPSILON, order},
};
use merv_plugin_api::Call;
use tch::{Tensor, no_grad_guard};

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

    /// `[clips, tokens, input]` → `[clips, tokens / pooled, output]`, both in the order of [`order`]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = match &self.widening {
            Some(widening) => pooled(&widening.forward(&normed)?, 1, self.plan.pooled)?,
            None => x.shallow_clone(),
        };
        let branch = self.output.forward(&self.attend(&normed)?)?;
        // The first block of the model may widen nothing, and is `f32` already.
        let x = x.f_to_kind(tch::Kind::Float)?.f_add(&branch)?;
        let branch = self.mlp.forward(&self.norm2.forward(&x)?)?;
        Ok(x.f_add(&branch)?)
    }

    /// Computes the attention within mask units or between all tokens, without the output projection.
    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let plan = &self.plan;
        let (clips, tokens, _) = x.size3()?;
        let (window, heads, width) = (size(plan.window), size(plan.heads), size(plan.output));
        let (units, head) = (tokens / window, width / heads);
        // A mask unit consists of every `units`-th token.
        let qkv = self.qkv.forward(x)?;
        let qkv = qkv.f_view([clips, window, units, 3, heads, head])?;
        let qkv = qkv.f_permute([3, 0, 2, 4, 1, 5])?;
        let part = |index| -> Result<Tensor> {
            Ok(qkv
                .f_get(index)?
                .f_reshape([clips * units, heads, window, head])?)
        };
        let q = pooled(&part(0)?, 2, plan.pooled)?;
        let mixed = attend(&q, &part(1)?, &part(2)?, None)?;
        let queries = window / size(plan.pooled);
        let mixed = mixed.f_view([clips, units, heads, queries, head])?;
        let mixed = mixed.f_permute([0, 3, 1, 2, 4])?;
        Ok(mixed.f_reshape([clips, queries * units, width])?)
    }
}

/// Returns the maximum over `parts` equal parts of a dimension.
fn pooled(x: &Tensor, dim: usize, parts: usize) -> Result<Tensor> {
    if parts == 1 {
        return Ok(x.shallow_clone());
    }
    let mut shape = x.size();
    shape[dim] /= size(parts);
    shape.insert(dim, size(parts));
    Ok(x.f_reshape(shape)?.f_max_dim(size(dim), false)?.0)
}

pub struct Hiera {
    patches: Conv,
    /// The learned positions: of every token, or in space and in time.
    positions: Vec<Tensor>,
    /// The order of the tokens in the blocks.
    order: Tensor,
    /// Where each token of the last map is after the last block.
    places: Tensor,
    blocks: Vec<Block>,
    frames: usize,
}

impl Hiera {
    /// Takes the weights from `scope`, the root of the files.
    pub fn new(config: &Config, scope: &Scope<'_>) -> Result<Self> {
        let scope = &scope.below(hiera::root(|name| scope.contains(name)));
        let width = config.embed_dim();
        let [[t, h, w], stride, padding] = config.patches();
        let projection = scope.pp("patch_embed.proj");
        let (all, left) = config.strides();
        let last = order(config.last_map(), &left);
        let mut places = vec![0; last.len()];
        for (row, &place) in last.iter().enumerate() {
            places[place] = row;
        }
        let [times, rows, columns] = config.tokens();
        let (time, space) = (times, rows * columns);
        let blocks = config.blocks().into_iter().enumerate();
        Ok(Self {
            patches: Conv::patches(&[width, CHANNELS, t, h, w], true, &projection)
                .strided(&stride, &padding),
            positions: match config.separate_positions() {
                true => vec![
                    scope.vector("pos_embed_spatial", &[1, space, width]),
                    scope.vector("pos_embed_temporal", &[1, time, width]),
                ],
                false => vec![scope.vector("pos_embed", &[1, time * space, width])],
            },
            order: index(&order(config.tokens(), &all), scope)?,
            places: index(&places, scope)?,
            blocks: blocks
                .map(|(index, plan)| Block::new(plan, &scope.pp("blocks").pp(index)))
                .collect(),
            frames: config.frames(),
        })
    }

    /// Adds the position of every token to `[clips, tokens, width]`.
    fn placed(&self, x: &Tensor) -> Result<Tensor> {
        let [space, time] = match &self.positions[..] {
            [space, time] => [space, time],
            all => {
                return all
                    .iter()
                    .try_fold(x.shallow_clone(), |x, p| Ok(x.f_add(p)?));
            }
        };
        // `[time, 1, width] + [1, space, width]`
        let positions = time.f_transpose(0, 1)?.f_add(space)?;
        Ok(x.f_add(&positions.f_flatten(0, 1)?)?)
    }
}

/// Returns numbers of rows on the device.
fn index(rows: &[usize], scope: &Scope<'_>) -> Result<Tensor> {
    let _guard = no_grad_guard();
    let rows: Vec<i64> = rows.iter().map(|&row| size(row)).collect();
    Ok(Tensor::f_from_slice(&rows)?.f_to(scope.placement().torch())?)
}

impl Network for Hiera {
    fn group(&self) -> usize {
        self.frames
    }

    fn forward(&self, clips: &Tensor) -> Result<Tensor> {
        let (batch, _, channels, height, width) = clips.size5()?;
        let groups = clips.f_reshape([-1, size(self.frames), channels, height, width])?;
        let patches = self.patches.forward(&groups.f_transpose(1, 2)?)?;
        let mut x = self.placed(&patches)?.f_index_select(1, &self.order)?;
        for block in &self.blocks {
            Call::current().check()?;
            x = block.forward(&x)?;
        }
        let x = x.f_index_select(1, &self.places)?;
        let features = x.size3()?.2;
        Ok(x.f_reshape([batch, -1, features])?)
    }
}
