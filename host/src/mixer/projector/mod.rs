//! Projectors: they pool the features of one encoder to the common number of tokens and project them to the width of
//! the language model.

mod attentive_pool;
mod average_pool;
mod conv;
mod conv_3d;
mod mlp;
mod pool;
mod windows;

use super::{EncoderShape, parameters::Scope};
use crate::registry::{MixerKind, Pooling};
use attentive_pool::AttentivePool;
use average_pool::AveragePool;
use candle_core::Tensor;
use conv::ConvPool;
use conv_3d::Conv3dPool;
use merv_architectures::mixer::projector::{ATTENTIVE_LINEAR, mlp_width};
use merv_plugin_sdk::{PluginError, Result};
use mlp::Mlp;
use pool::Pool;
use windows::{Axis, Grid};

/// The projector of one encoder: an optional pooling, then a perceptron.
pub struct Projector {
    shape: EncoderShape,
    pool: Option<Box<dyn Pool>>,
    mlp: Mlp,
}

impl Projector {
    /// Takes its tensors from `scope`, under the names of upstream. With a pooling, the names of the perceptron have an
    /// additional `projector` prefix.
    ///
    /// # Errors
    ///
    /// When the features cannot be pooled: they do not form a grid, or the pooling does not support their width.
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
        let time = Axis {
            from: temporal,
            to: kind.projector.time_steps(temporal),
        };
        if time.to == 0 {
            return Err(PluginError::invalid(format!(
                "`{}` pools {temporal} time steps to none",
                kind.projector
            )));
        }
        let grid = || Grid::new(spatial, kind.token_side());
        let scope = &match kind.projector.pooling {
            Pooling::Attntv => scope.with_linear(ATTENTIVE_LINEAR),
            _ => scope.clone(),
        };
        let pool: Option<Box<dyn Pool>> = match kind.projector.pooling {
            Pooling::None => None,
            Pooling::Avg | Pooling::Avg3d => Some(Box::new(AveragePool::new(time, grid()?)?)),
            Pooling::Attntv => Some(Box::new(AttentivePool::new(
                kind.token_length,
                width,
                scope,
            )?)),
            Pooling::Conv => Some(Box::new(ConvPool::new(grid()?, width, llm_width, scope)?)),
            Pooling::Conv3d => Some(Box::new(Conv3dPool::new(
                time,
                grid()?,
                width,
                llm_width,
                scope,
            )?)),
        };
        let mlp_scope = match pool {
            Some(_) => scope.pp("projector"),
            None => scope.clone(),
        };
        let mlp_width = mlp_width(kind.projector.pooling, width, llm_width);
        Ok(Self {
            shape,
            pool,
            mlp: Mlp::new(kind.projector.mlp, mlp_width, llm_width, &mlp_scope)?,
        })
    }

    /// Pools and projects the features of a batch of clips.
    ///
    /// # Shapes
    ///
    /// `[batch, temporal · spatial, width]` → `[batch, tokens, llm_width]`
    ///
    /// # Errors
    ///
    /// When the features have another shape.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let EncoderShape {
            width,
            temporal,
            spatial,
        } = self.shape;
        let (batch, tokens, found) = features.dims3()?;
        if tokens != temporal * spatial || found != width {
            return Err(PluginError::invalid(format!(
                "expected features [batch, {temporal}·{spatial}, {width}], found {:?}",
                features.dims()
            )));
        }
        match &self.pool {
            Some(pool) => {
                let steps = features.reshape((batch, temporal, spatial, width))?;
                self.mlp.forward(&pool.forward(&steps)?)
            }
            None => self.mlp.forward(features),
        }
    }
}
