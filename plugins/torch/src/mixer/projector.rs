//! Projectors: they pool the features of one encoder to the common number of tokens and project them to the width of the
//! language model.

use super::{
    attentive_pool::AttentivePool,
    conv::{Conv3dPool, ConvPool},
    linear::linear,
    scope::Scope,
};
use crate::{failure::Result, layers::Linear, tensor::size};
use merv_architectures::mixer::{
    EncoderShape, MixerKind, Mlp, Pooling,
    projector::{ATTENTIVE_LINEAR, grid, mlp_width, mlp_widths},
};
use merv_plugin_api::PluginError;
use tch::{Kind, Tensor};

enum Pool {
    None,
    /// An adaptive average to time steps, rows and columns. The grid is that before.
    Average {
        grid: [i64; 2],
        to: [i64; 3],
    },
    Attentive(AttentivePool),
    Conv(ConvPool),
    Conv3d(Conv3dPool),
}

/// The projector of one encoder: a pooling, then a perceptron.
pub struct Projector {
    shape: EncoderShape,
    pool: Pool,
    mlp: Vec<Linear>,
}

impl Projector {
    /// Takes its parameters under upstream's names. With a pooling, the names of the perceptron have an additional `projector`
    /// prefix.
    pub fn new(
        kind: MixerKind,
        shape: EncoderShape,
        llm_width: usize,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        let EncoderShape {
            width,
            temporal,
            spatial,
        } = shape;
        let projector = kind.projector;
        let steps = projector.time_steps(temporal);
        if steps == 0 {
            return Err(PluginError::invalid(format!(
                "`{projector}` pools {temporal} time steps to none"
            ))
            .into());
        }
        let side = kind.token_side();
        let (grid, to) = (|| grid(spatial, side), [steps, side, side]);
        let scope = &match projector.pooling {
            Pooling::Attntv => scope.with_linear(ATTENTIVE_LINEAR),
            _ => scope.clone(),
        };
        let pool = match projector.pooling {
            Pooling::None => Pool::None,
            Pooling::Avg | Pooling::Avg3d => Pool::Average {
                grid: grid()?.map(size),
                to: to.map(size),
            },
            Pooling::Attntv => {
                Pool::Attentive(AttentivePool::new(kind.token_length, width, scope)?)
            }
            Pooling::Conv => Pool::Conv(ConvPool::new(grid()?, side, width, llm_width, scope)?),
            Pooling::Conv3d => Pool::Conv3d(Conv3dPool::new(grid()?, to, width, llm_width, scope)?),
        };
        let scope = match pool {
            Pool::None => scope.pp("projector"),
            _ => scope.pp("projector").pp("projector"),
        };
        let widths = mlp_widths(
            projector.mlp,
            mlp_width(projector.pooling, width, llm_width),
            llm_width,
        );
        let layers = widths.windows(2).enumerate().map(|(index, pair)| {
            let scope = match projector.mlp {
                Mlp::Linear => scope.clone(),
                // The indices in upstream's `Sequential` include the activations.
                _ => scope.pp(2 * index),
            };
            linear(pair[0], pair[1], &scope)
        });
        Ok(Self {
            shape,
            mlp: layers.collect::<Result<_>>()?,
            pool,
        })
    }

    /// `[batch, temporal · spatial, width]` → `[batch, tokens, llm_width]` of `f32`
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let EncoderShape {
            width,
            temporal,
            spatial,
        } = self.shape;
        let found = features.size();
        let expected = [size(temporal.saturating_mul(spatial)), size(width)];
        if found.len() != 3 || found[1..] != expected {
            return Err(PluginError::invalid(format!(
                "expected features [batch, {temporal}·{spatial}, {width}], found {found:?}"
            ))
            .into());
        }
        let steps = features.f_reshape([found[0], size(temporal), size(spatial), size(width)])?;
        let mut x = match &self.pool {
            Pool::None => features.shallow_clone(),
            Pool::Average { grid, to } => averaged(&steps, *grid, *to)?,
            Pool::Attentive(pool) => pool.forward(&steps)?,
            Pool::Conv(pool) => pool.forward(&steps)?,
            Pool::Conv3d(pool) => pool.forward(&steps)?,
        };
        for (index, layer) in self.mlp.iter().enumerate() {
            if index > 0 {
                x = x.f_gelu("none")?;
            }
            x = layer.forward(&x)?;
        }
        Ok(x.f_to_kind(Kind::Float)?)
    }
}

/// `torch.nn.AdaptiveAvgPool3d`: `[batch, temporal, spatial, width]` → `[batch, tokens, width]`
fn averaged(x: &Tensor, [rows, columns]: [i64; 2], to: [i64; 3]) -> Result<Tensor> {
    let (batch, temporal, _, width) = x.size4()?;
    let x = x.f_reshape([batch, temporal, rows, columns, width])?;
    let pooled = x.f_permute([0, 4, 1, 2, 3])?.f_adaptive_avg_pool3d(to)?;
    Ok(pooled.f_flatten(2, 4)?.f_transpose(1, 2)?)
}
