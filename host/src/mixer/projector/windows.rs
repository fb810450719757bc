//! Adaptive average pooling as a product with a constant matrix, which is exact and differentiable in candle.

use candle_core::{Device, Tensor};
use merv_architectures::mixer::projector::grid;
use merv_plugin_sdk::{PluginError, Result};

/// The maximum number of elements of a pooling matrix: 256 MiB, enough to pool 1024 by 1024 features to 8 by 8.
const MAX_POOLING: usize = 1 << 26;

/// One axis of an adaptive average: `from` positions to `to` windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// The number of positions.
    pub from: usize,
    /// The number of windows.
    pub to: usize,
}

impl Axis {
    /// Returns the matrix `[to, from]` in row-major order. Each row averages one window, as in
    /// `torch.nn.AdaptiveAvgPool1d`: window `i` covers `floor(i · from / to) .. ceil((i + 1) · from / to)`.
    ///
    /// `shift` moves the windows along the axis. Positions beyond the ends count as zeros, like the padding of a
    /// convolution.
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

    /// Returns the [`Self::windows`] of all shifts, stacked: `[shifts · to, from]`.
    ///
    /// # Errors
    ///
    /// When the matrix would be too large.
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

/// The features of a time step, arranged in rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The vertical axis.
    pub rows: Axis,
    /// The horizontal axis.
    pub columns: Axis,
}

impl Grid {
    /// Arranges `spatial` features as upstream does, in as many rows as fit into a square. They are pooled to
    /// `side · side`.
    ///
    /// # Errors
    ///
    /// When the features do not form a grid.
    pub fn new(spatial: usize, side: usize) -> Result<Self> {
        let [rows, columns] = grid(spatial, side)?;
        let axis = |from| Axis { from, to: side };
        Ok(Self {
            rows: axis(rows),
            columns: axis(columns),
        })
    }

    /// Returns `torch.nn.AdaptiveAvgPool2d` as a matrix for a flattened grid, stacked for all shifts of the windows down
    /// and right (see [`Axis::windows`]): `[shifts · side², spatial]`.
    ///
    /// # Errors
    ///
    /// When the matrix would be too large.
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
            "the matrix that pools {from} features to {to} would be too large; at most {MAX_POOLING} elements are \
             supported"
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
    fn positions_beyond_the_axis_count_as_zeros() {
        let axis = Axis { from: 4, to: 2 };
        assert_eq!(axis.windows(0), [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(axis.windows(1), [0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5]);
        assert_eq!(axis.windows(-1), [0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn features_that_do_not_form_a_grid_are_an_error() {
        for (spatial, side) in [(197, 8), (257, 8), (0, 8), (16, 0), (1 << 40, 8)] {
            let pooling = Grid::new(spatial, side).and_then(|grid| grid.pooling(&[[0, 0]]));
            assert!(pooling.is_err(), "{spatial} to {side}");
        }
    }
}
