//! Adaptive average pooling as a product with a constant matrix: exact, and candle differentiates it.

use candle_core::{Device, Tensor};
use merv_plugin_sdk::{PluginError, Result};

/// Elements of a pooling matrix at most: 256 MiB, for features of 1024 by 1024 to 8 by 8.
const MAX_POOLING: usize = 1 << 26;

/// One axis of an adaptive average: `from` positions to `to` windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Positions.
    pub from: usize,
    /// Windows.
    pub to: usize,
}

impl Axis {
    /// The matrix `[to, from]`, row after row, which averages the window of each row as
    /// `torch.nn.AdaptiveAvgPool1d` does: window `i` covers
    /// `floor(i · from / to) .. ceil((i + 1) · from / to)`.
    ///
    /// `shift` moves the windows along the axis; what they then cover beyond its ends counts as zeros,
    /// as the padding of a convolution does.
    fn windows(self, shift: isize) -> Vec<f32> {
        let Self { from, to } = self;
        let mut matrix = vec![0.0; to * from];
        for i in 0..to {
            let window = (i * from / to)..((i + 1) * from).div_ceil(to);
            let share = 1.0 / window.len() as f32;
            for position in window {
                let position = position.wrapping_add_signed(shift);
                if position < from {
                    matrix[i * from + position] += share;
                }
            }
        }
        matrix
    }

    /// The [`Self::windows`] of each shift, one below the other: `[shifts · to, from]`.
    ///
    /// # Errors
    ///
    /// When it would be out of all proportion.
    pub fn pooling(self, shifts: &[isize]) -> Result<Tensor> {
        let windows = shifts.len() * self.to;
        bounded(self.from, windows)?;
        let matrix: Vec<f32> = shifts.iter().flat_map(|&by| self.windows(by)).collect();
        Ok(Tensor::from_vec(
            matrix,
            (windows, self.from),
            &Device::Cpu,
        )?)
    }
}

/// The features of a time step, laid out as rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The vertical axis.
    pub rows: Axis,
    /// The horizontal axis.
    pub columns: Axis,
}

impl Grid {
    /// `spatial` features, laid out as upstream does: as many rows as fit into a square. They are
    /// pooled to `side · side`.
    ///
    /// # Errors
    ///
    /// When they form no grid, or the pooling would be out of all proportion.
    pub fn new(spatial: usize, side: usize) -> Result<Self> {
        let rows = spatial.isqrt();
        if rows == 0 || !spatial.is_multiple_of(rows) || side == 0 {
            return Err(PluginError::invalid(format!(
                "{spatial} features a time step form no grid to pool to {side} by {side}"
            )));
        }
        let axis = |from| Axis { from, to: side };
        Ok(Self {
            rows: axis(rows),
            columns: axis(spatial / rows),
        })
    }

    /// `torch.nn.AdaptiveAvgPool2d` as a matrix that a flattened grid is multiplied with, once for
    /// every shift of the windows down and right (see [`Axis::windows`]): `[shifts · side², spatial]`.
    ///
    /// # Errors
    ///
    /// When it would be out of all proportion.
    pub fn pooling(self, shifts: &[[isize; 2]]) -> Result<Tensor> {
        let windows = shifts
            .len()
            .saturating_mul(self.rows.to.saturating_mul(self.columns.to));
        let features = self.rows.from * self.columns.from;
        bounded(features, windows)?;
        let matrix: Vec<f32> = shifts.iter().flat_map(|&by| self.windows(by)).collect();
        Ok(Tensor::from_vec(matrix, (windows, features), &Device::Cpu)?)
    }

    fn windows(self, shift: [isize; 2]) -> Vec<f32> {
        let (rows, columns) = (self.rows.windows(shift[0]), self.columns.windows(shift[1]));
        let mut matrix = Vec::with_capacity(rows.len() * columns.len());
        for row in rows.chunks(self.rows.from) {
            for column in columns.chunks(self.columns.from) {
                matrix.extend(row.iter().flat_map(|y| column.iter().map(move |x| y * x)));
            }
        }
        matrix
    }
}

fn bounded(from: usize, to: usize) -> Result<()> {
    if from.saturating_mul(to) > MAX_POOLING {
        return Err(PluginError::invalid(format!(
            "pooling {from} features to {to} is out of all proportion"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_an_average() {
        for (spatial, side) in [(196, 8), (256, 8), (25, 3), (4, 3), (1, 1), (64, 8), (6, 2)] {
            let sums = Grid::new(spatial, side)
                .unwrap()
                .pooling(&[[0, 0]])
                .unwrap()
                .sum(1)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            assert!(
                sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6),
                "{spatial} to {side}: {sums:?}"
            );
        }
    }

    #[test]
    fn windows_moved_off_the_axis_see_zeros() {
        let axis = Axis { from: 4, to: 2 };
        assert_eq!(axis.windows(0), [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(axis.windows(1), [0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5]);
        assert_eq!(axis.windows(-1), [0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn what_forms_no_grid_is_an_error() {
        for (spatial, side) in [(197, 8), (257, 8), (0, 8), (16, 0), (1 << 40, 8)] {
            let pooling = Grid::new(spatial, side).and_then(|grid| grid.pooling(&[[0, 0]]));
            assert!(pooling.is_err(), "{spatial} to {side}");
        }
    }
}
