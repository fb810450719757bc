//! Sums, products and column sums of rows.

use rayon::prelude::*;

/// Elements that one task processes.
pub(super) const ELEMENTS_PER_TASK: usize = 16 * 1024;

/// Rows that one task processes.
pub(super) const ROWS_PER_TASK: usize = 32;

/// Columns that one task sums.
const COLUMNS_PER_TASK: usize = 64;

/// Computes `into += from`.
pub fn add(into: &mut [f32], from: &[f32]) {
    into.par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(from.par_chunks(ELEMENTS_PER_TASK))
        .for_each(|(into, from)| add_part(into, from));
}

multiversion! {
    /// As [`add`], on this thread.
    pub(super) fn add_part(into: &mut [f32], from: &[f32]) {
        for (into, from) in into.iter_mut().zip(from) {
            *into += from;
        }
    }
}

multiversion! {
    /// Computes `into *= by`, on this thread.
    pub(super) fn multiply(into: &mut [f32], by: &[f32]) {
        for (into, by) in into.iter_mut().zip(by) {
            *into *= by;
        }
    }
}

/// Adds the column sums of `rows [.., columns]` to `sums [columns]`. With `weights`, which have the shape of
/// `rows`, these are the sums of the products.
pub fn add_columns(rows: &[f32], weights: Option<&[f32]>, sums: &mut [f32]) {
    let width = sums.len();
    sums.par_chunks_mut(COLUMNS_PER_TASK)
        .enumerate()
        .for_each(|(task, sums)| {
            column_sums(rows, weights, width, task * COLUMNS_PER_TASK, sums);
        });
}

multiversion! {
    fn column_sums(rows: &[f32], weights: Option<&[f32]>, width: usize, first: usize, sums: &mut [f32]) {
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let row = &row[first..first + sums.len()];
            match weights {
                None => {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
                Some(weights) => {
                    let weights = &weights[index * width + first..][..row.len()];
                    for ((sum, x), w) in sums.iter_mut().zip(row).zip(weights) {
                        *sum = x.mul_add(*w, *sum);
                    }
                }
            }
        }
    }
}

/// Returns the rows, each multiplied by `scale`.
pub fn scaled_rows(rows: &[f32], scale: &[f32]) -> Vec<f32> {
    let mut scaled = rows.to_vec();
    let width = scale.len().max(1);
    scaled
        .par_chunks_mut(width * ROWS_PER_TASK)
        .for_each(|rows| {
            rows.chunks_exact_mut(width)
                .for_each(|row| multiply(row, scale));
        });
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers::numbers;

    #[test]
    fn columns_are_summed() {
        let (rows, width) = (70, 130);
        let (x, y) = (numbers(rows * width, 1), numbers(rows * width, 2));
        let before = numbers(width, 3);
        for weights in [None, Some(y.as_slice())] {
            let mut sums = before.clone();
            add_columns(&x, weights, &mut sums);
            for (column, sum) in sums.iter().enumerate() {
                let expected: f64 = (0..rows)
                    .map(|row| row * width + column)
                    .map(|at| f64::from(x[at]) * weights.map_or(1.0, |w| f64::from(w[at])))
                    .sum();
                let expected = expected + f64::from(before[column]);
                assert!(
                    (f64::from(*sum) - expected).abs() < 1e-4,
                    "{column}: {sum}, {expected}"
                );
            }
        }
    }
}
