//! The rotary position embedding (arXiv 2104.09864).

use crate::{failure::Result, weights::Scope};
use merv_architectures::llama::{Config, ROPE_FACTORS, RopePairs, frequencies};
use merv_plugin_api::PluginError;
use tch::{Kind, Tensor, no_grad_guard};

/// The angles by which pairs of coordinates are rotated from one position to the next.
pub struct Rope {
    /// `[head_dim / 2]` of `f32`, because at large positions a rounding difference changes the angle.
    frequencies: Tensor,
    pairs: RopePairs,
}

/// Cosines and sines of positions, `[…, positions, head_dim]`.
pub struct Rotation {
    cosines: Tensor,
    sines: Tensor,
    pairs: RopePairs,
}

impl Rope {
    /// Computes the frequencies of `config`, and divides them by the factors in `scope`, the root of the files, if it has any.
    pub fn new(config: &Config, scope: &Scope<'_>) -> Result<Self> {
        let _guard = no_grad_guard();
        let frequencies = Tensor::f_from_slice(&frequencies(config)?)?;
        let frequencies = frequencies.f_to(scope.placement().torch())?;
        let frequencies = match scope.contains(ROPE_FACTORS) {
            true => {
                let factors = scope.constant(ROPE_FACTORS, &[config.head_dim() / 2], Kind::Float);
                frequencies.f_div(&factors)?
            }
            false => frequencies,
        };
        Ok(Self {
            frequencies,
            pairs: config.rope_pairs,
        })
    }

    /// Returns the rotation of `positions [positions]`.
    pub fn at(&self, positions: &[i64]) -> Result<Rotation> {
        let _guard = no_grad_guard();
        let positions = Tensor::f_from_slice(positions)?.f_to(self.frequencies.device())?;
        let angles = positions
            .f_to_kind(Kind::Float)?
            .f_outer(&self.frequencies)?;
        let angles = match self.pairs {
            RopePairs::Halves => Tensor::f_cat(&[&angles, &angles], -1)?,
            RopePairs::Interleaved => angles.f_repeat_interleave_self_int(2, -1, None::<i64>)?,
        };
        Ok(Rotation {
            cosines: angles.f_cos()?,
            sines: angles.f_sin()?,
            pairs: self.pairs,
        })
    }
}

impl Rotation {
    /// Rotates `[…, heads, positions, head_dim]`.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let turned = match self.pairs {
            RopePairs::Halves => match &x.f_chunk(2, -1)?[..] {
                [first, second] => Tensor::f_cat(&[second.f_neg()?, first.shallow_clone()], -1)?,
                _ => return Err(PluginError::invalid("the width of a head is odd").into()),
            },
            RopePairs::Interleaved => {
                let mut shape = x.size();
                let even = x.f_slice(-1, 0, None::<i64>, 2)?;
                let odd = x.f_slice(-1, 1, None::<i64>, 2)?;
                let pairs = Tensor::f_stack(&[odd.f_neg()?, even], -1)?;
                shape.truncate(x.dim());
                pairs.f_reshape(shape)?
            }
        };
        let rotated = x.f_mul(&self.cosines)?.f_add(&turned.f_mul(&self.sines)?)?;
        Ok(rotated.f_to_kind(x.kind())?)
    }

    /// Returns the rotation of one of the positions, for heads `[…, 1, head_dim]`.
    pub fn position(&self, index: i64) -> Result<Self> {
        Ok(Self {
            cosines: self.cosines.f_narrow(0, index, 1)?,
            sines: self.sines.f_narrow(0, index, 1)?,
            pairs: self.pairs,
        })
    }
}
