//! The tokens before the patches, and position embeddings, which can be resampled to another grid than the trained one.

use crate::{failure::Result, tensor::size};
use tch::Tensor;

/// The position embeddings of a frame, and the tokens before its patches.
pub struct TokenEmbedding {
    /// Class and register tokens, `[…, tokens, width]` each.
    prefix: Vec<Tensor>,
    /// `[…, leading + patches, width]`
    positions: Tensor,
    /// The number of positions that belong to the prefix: as many as it has tokens, or none.
    leading: i64,
    /// The sides of the trained and the target grid, if they differ.
    grids: Option<[i64; 2]>,
}

impl TokenEmbedding {
    /// An embedding with positions for all tokens, as in Hugging Face's CLIP and ViViT. `class` and `positions` may lack
    /// their first dimensions.
    pub fn placed(class: Tensor, positions: Tensor) -> Self {
        Self {
            prefix: vec![class],
            positions,
            leading: 1,
            grids: None,
        }
    }

    /// timm's embedding, whose positions were trained on a square grid with sides of `grids[0]` and are resampled to one with
    /// sides of `grids[1]`. The first `leading` positions belong to the prefix.
    pub fn resampled(
        prefix: Vec<Tensor>,
        positions: Tensor,
        leading: usize,
        grids: [usize; 2],
    ) -> Self {
        Self {
            prefix,
            positions,
            leading: size(leading),
            grids: (grids[0] != grids[1]).then_some(grids.map(size)),
        }
    }

    /// `[frames, patches, width]` → `[frames, prefix + patches, width]`
    pub fn forward(&self, patches: &Tensor) -> Result<Tensor> {
        let (frames, _, width) = patches.size3()?;
        // The parameters are learned, so their views are made anew in every call.
        let rows = |tensor: &Tensor| tensor.f_view([1, -1, width]);
        let positions = rows(&self.positions)?;
        let count = positions.size3()?.1 - self.leading;
        let grid = positions.f_narrow(1, self.leading, count)?;
        let grid = match self.grids {
            Some([from, to]) => resampled(&grid, from, to)?,
            None => grid,
        };
        let patches = patches.f_add(&grid)?;
        if self.prefix.is_empty() {
            return Ok(patches);
        }
        let prefix: Result<Vec<_>, _> = self.prefix.iter().map(rows).collect();
        let mut prefix = Tensor::f_cat(&prefix?, 1)?;
        if self.leading > 0 {
            prefix = prefix.f_add(&positions.f_narrow(1, 0, self.leading)?)?;
        }
        let tokens = prefix.size3()?.1;
        let prefix = prefix.f_expand([frames, tokens, width], false)?;
        Ok(Tensor::f_cat(&[prefix, patches], 1)?)
    }
}

/// Resamples a square grid of embeddings like timm's `resample_abs_pos_embed`: bicubic, and antialiased when shrinking.
///
/// `[1, from · from, width]` → `[1, to · to, width]`
fn resampled(grid: &Tensor, from: i64, to: i64) -> Result<Tensor> {
    let width = grid.size3()?.2;
    let image = grid
        .f_view([1, from, from, width])?
        .f_permute([0, 3, 1, 2])?;
    let none = None::<f64>;
    let image =
        image
            .f_contiguous()?
            .f_internal_upsample_bicubic2d_aa([to, to], false, none, none)?;
    Ok(image.f_flatten(2, 3)?.f_transpose(1, 2)?)
}
