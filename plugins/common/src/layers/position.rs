//! Position embeddings, which can be resampled to another grid than the trained one, and the tokens before
//! the patches.

use crate::{
    Result,
    gradients::{Parameter, note},
    kernels::rows::{add, add_columns},
    tensor::{from_vec, rows, with_slice},
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// The position embeddings of a frame, and the tokens before its patches.
#[derive(Clone)]
pub struct TokenEmbedding {
    /// Class and register tokens; each parameter has one or more rows.
    prefix: Vec<Parameter>,
    /// One row for each patch, after the rows of the prefix if it has positions.
    positions: Parameter,
    /// The number of tokens at the front that have no position.
    unplaced: usize,
    /// The number of rows of the positions that belong to the prefix instead of the grid.
    leading: usize,
    /// The sides of the trained and the target grid, if they differ.
    grids: Option<[usize; 2]>,
    width: usize,
    /// The stored positions on the target grid, if it differs.
    resampled: Vec<f32>,
}

impl TokenEmbedding {
    /// Creates an embedding in which all tokens have positions, as in Hugging Face's CLIP and ViViT.
    pub fn placed(prefix: Vec<Parameter>, positions: Parameter, width: usize) -> Self {
        Self {
            prefix,
            positions,
            unplaced: 0,
            leading: 0,
            grids: None,
            width,
            resampled: Vec::new(),
        }
    }

    /// Creates timm's embedding, whose positions were trained on a square grid with sides of `grids[0]` and
    /// are resampled to one with sides of `grids[1]`. The first `leading` rows of the positions belong to the
    /// prefix: as many as it has tokens, or none.
    pub fn resampled(
        prefix: Vec<Parameter>,
        positions: Parameter,
        width: usize,
        leading: usize,
        grids: [usize; 2],
    ) -> Self {
        let tokens: usize = prefix.iter().map(|tokens| tokens.len() / width).sum();
        let mut embedding = Self {
            prefix,
            positions,
            unplaced: tokens.saturating_sub(leading),
            leading,
            grids: (grids[0] != grids[1]).then_some(grids),
            width,
            resampled: Vec::new(),
        };
        if embedding.grids.is_some() {
            let stored = embedding.positions.values();
            embedding.resampled = embedding.on_target_grid(&stored.f32s());
        }
        embedding
    }

    /// Returns the positions on the target grid.
    fn on_target_grid(&self, positions: &[f32]) -> Vec<f32> {
        let Some([from, to]) = self.grids else {
            return positions.to_vec();
        };
        let (leading, grid) = positions.split_at((self.leading * self.width).min(positions.len()));
        let resampled = resample(grid.to_vec(), from, to, self.width);
        [leading, &resampled].concat()
    }

    /// Returns the number of tokens before the patches.
    fn prefix_len(&self) -> usize {
        let elements: usize = self.prefix.iter().map(Parameter::len).sum();
        elements / self.width.max(1)
    }

    /// # Shapes
    ///
    /// `[frames · patches, width]` → `[frames · (prefix + patches), width]`
    ///
    /// # Errors
    ///
    /// When `patches` is not a whole number of frames.
    pub fn forward(&self, patches: &Tensor) -> Result<Tensor> {
        let (count, width) = rows(patches)?;
        let positions = self.positions.values();
        let positions = positions.f32s();
        let resampled;
        let positions = match self.grids {
            None => &*positions,
            Some(_) if self.positions.is_trained() => {
                resampled = self.on_target_grid(&positions);
                &resampled
            }
            Some(_) => &self.resampled,
        };
        let before = self.prefix_len();
        let tokens = positions.len() / self.width.max(1) + self.unplaced;
        let each = tokens.saturating_sub(before);
        if each == 0 || width != self.width || !count.is_multiple_of(each) {
            return Err(PluginError::invalid(format!(
                "expected patches [frames · {each}, {}], found {:?}",
                self.width,
                patches.dims()
            )));
        }
        let frames = count / each;
        let mut prefix = Vec::with_capacity(before * width);
        for tokens in &self.prefix {
            prefix.extend_from_slice(&tokens.values().f32s());
        }
        let mut x = Vec::with_capacity(frames * tokens * width);
        with_slice(patches, |patches| {
            for frame in patches.chunks_exact(each * width) {
                let start = x.len();
                x.extend_from_slice(&prefix);
                x.extend_from_slice(frame);
                let placed = &mut x[start + self.unplaced * width..];
                placed.iter_mut().zip(positions).for_each(|(x, p)| *x += p);
            }
            Ok(())
        })?;
        let x = from_vec(x, (frames * tokens, width))?;
        let (embedding, id) = (self.clone(), patches.id());
        let trained = self.positions.is_trained();
        note(
            "the embedding of tokens",
            &[patches],
            &x,
            trained,
            move |gradient, flow| {
                if trained {
                    embedding.add_gradients(&gradient, tokens);
                }
                let row = tokens * width;
                flow.add(
                    id,
                    gradient
                        .chunks_exact(row)
                        .flat_map(|frame| &frame[before * width..])
                        .copied()
                        .collect(),
                );
                Ok(())
            },
        );
        Ok(x)
    }

    /// Adds to the gradients of prefix and positions, from the gradient of `[frames · tokens, width]`.
    fn add_gradients(&self, gradient: &[f32], tokens: usize) {
        let mut sums = vec![0.0; tokens * self.width];
        add_columns(gradient, None, &mut sums);
        let placed = &sums[self.unplaced * self.width..];
        match self.grids {
            None => self.positions.add_to_gradient(|sum| add(sum, placed)),
            Some([from, to]) => {
                let (leading, grid) = placed.split_at(self.leading * self.width);
                let grid = resample_backward(grid, from, to, self.width);
                let gradient = [leading, &grid].concat();
                self.positions.add_to_gradient(|sum| add(sum, &gradient));
            }
        }
        let mut rest = sums.as_slice();
        for tokens in &self.prefix {
            let (part, after) = rest.split_at(tokens.len());
            rest = after;
            tokens.add_to_gradient(|sum| add(sum, part));
        }
    }
}

/// Resamples a square grid of embeddings like timm's `resample_abs_pos_embed`: bicubic (a = −0.5), and
/// antialiased when shrinking (`torch.nn.functional.interpolate(antialias=True)`).
///
/// # Shapes
///
/// `[from · from, width]` → `[to · to, width]`
pub fn resample(grid: Vec<f32>, from: usize, to: usize, width: usize) -> Vec<f32> {
    if from == to || grid.len() != from * from * width {
        // A grid of another size is that of a tensor with another shape, which `weights::load` reports.
        return grid;
    }
    let taps: Vec<(usize, Vec<f32>)> = (0..to).map(|i| weights(i, from, to)).collect();
    let mut narrow = vec![0.0; from * to * width];
    for y in 0..from {
        for (x, (first, weights)) in taps.iter().enumerate() {
            let out = &mut narrow[(y * to + x) * width..][..width];
            for (tap, weight) in weights.iter().enumerate() {
                accumulate(
                    out,
                    &grid[(y * from + first + tap) * width..][..width],
                    *weight,
                );
            }
        }
    }
    let mut resampled = vec![0.0; to * to * width];
    for (y, (first, weights)) in taps.iter().enumerate() {
        for x in 0..to {
            let out = &mut resampled[(y * to + x) * width..][..width];
            for (tap, weight) in weights.iter().enumerate() {
                accumulate(
                    out,
                    &narrow[((first + tap) * to + x) * width..][..width],
                    *weight,
                );
            }
        }
    }
    resampled
}

/// The backward pass of [`resample`]: `[to · to, width]` → `[from · from, width]`.
fn resample_backward(gradient: &[f32], from: usize, to: usize, width: usize) -> Vec<f32> {
    let taps: Vec<(usize, Vec<f32>)> = (0..to).map(|i| weights(i, from, to)).collect();
    let mut narrow = vec![0.0; from * to * width];
    for (y, (first, weights)) in taps.iter().enumerate() {
        for x in 0..to {
            let row = &gradient[(y * to + x) * width..][..width];
            for (tap, weight) in weights.iter().enumerate() {
                let out = &mut narrow[((first + tap) * to + x) * width..][..width];
                accumulate(out, row, *weight);
            }
        }
    }
    let mut grid = vec![0.0; from * from * width];
    for y in 0..from {
        for (x, (first, weights)) in taps.iter().enumerate() {
            let row = &narrow[(y * to + x) * width..][..width];
            for (tap, weight) in weights.iter().enumerate() {
                let out = &mut grid[(y * from + first + tap) * width..][..width];
                accumulate(out, row, *weight);
            }
        }
    }
    grid
}

fn accumulate(out: &mut [f32], row: &[f32], weight: f32) {
    for (out, value) in out.iter_mut().zip(row) {
        *out += value * weight;
    }
}

/// Returns the first input of output `index` and the weights of its inputs.
fn weights(index: usize, from: usize, to: usize) -> (usize, Vec<f32>) {
    let scale = from as f32 / to as f32;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let centre = scale * (index as f32 + 0.5);
    let first = (centre - support + 0.5).max(0.0) as usize;
    let last = ((centre + support + 0.5) as usize).min(from);
    let mut weights: Vec<f32> = (first..last)
        .map(|j| cubic((j as f32 - centre + 0.5) / stretch))
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    (first, weights)
}

/// Keys' cubic convolution kernel with a = −0.5.
fn cubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<resample(g), y> = <g, resample_backward(y)>`, which makes each the transpose of the other.
    #[test]
    fn the_backward_pass_of_resampling_is_its_transpose() {
        for (from, to) in [(7, 4), (3, 5)] {
            let width = 2;
            let numbers = |count: usize| -> Vec<f32> {
                (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect()
            };
            let (grid, gradient) = (numbers(from * from * width), numbers(to * to * width));
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let forward = dot(&resample(grid.clone(), from, to, width), &gradient);
            let backward = dot(&grid, &resample_backward(&gradient, from, to, width));
            assert!(
                (forward - backward).abs() < 1e-3,
                "{forward} is not {backward}"
            );
        }
    }
}
