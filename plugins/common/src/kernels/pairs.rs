//! Operands of products in `bf16`.
//!
//! The CPU's instruction multiplies two neighbouring inputs at the same time and adds both products to one
//! sum. Two rounded inputs are therefore stored in one `f32`, and the blocked product runs over half as many
//! inputs.

use rayon::prelude::*;

/// The approximate number of elements that one task converts.
const TASK: usize = 32 * 1024;

/// Returns the `bf16` nearest to `x`, ties to even, in the lower half. NaN stays NaN.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() {
        bits | 0x0040_0000
    } else {
        nearest
    }) >> 16
}

multiversion! {
    /// Joins neighbours in `row`. The last element is joined with 0 if it has no neighbour.
    pub(super) fn join_neighbours(row: &[f32], pairs: &mut [f32]) {
        let (both, rest) = row.as_chunks::<2>();
        for (pair, [low, high]) in pairs.iter_mut().zip(both) {
            *pair = f32::from_bits(rounded(*low) | rounded(*high) << 16);
        }
        if let ([last], Some(pair)) = (rest, pairs.last_mut()) {
            *pair = f32::from_bits(rounded(*last));
        }
    }
}

multiversion! {
    /// Joins each element of `low` with the one of `high` in the same column, or with 0 if `high` is empty.
    pub(super) fn join_rows(low: &[f32], high: &[f32], pairs: &mut [f32]) {
        for (pair, low) in pairs.iter_mut().zip(low) {
            *pair = f32::from_bits(rounded(*low));
        }
        for (pair, high) in pairs.iter_mut().zip(high) {
            *pair = f32::from_bits(pair.to_bits() | rounded(*high) << 16);
        }
    }
}

multiversion! {
    /// Rounds each value to the nearest `bf16`.
    pub(super) fn round_all(values: &mut [f32]) {
        for value in values.iter_mut() {
            *value = f32::from_bits(rounded(*value) << 16);
        }
    }
}

/// Returns the number of rows that one task processes.
fn rows_per_task(columns: usize) -> usize {
    (TASK / columns.max(1)).max(1)
}

/// `[rows, columns]` → `[rows, columns / 2]`, rounded up: joins neighbours in each row.
pub(super) fn along_rows(matrix: &[f32], columns: usize) -> Vec<f32> {
    let (rows, width) = (matrix.len() / columns.max(1), columns.div_ceil(2));
    let mut pairs = vec![0.0; rows * width];
    let task = rows_per_task(columns);
    pairs
        .par_chunks_mut((task * width).max(1))
        .zip(matrix.par_chunks((task * columns).max(1)))
        .for_each(|(pairs, rows)| {
            let rows = rows.chunks_exact(columns);
            for (pairs, row) in pairs.chunks_exact_mut(width).zip(rows) {
                join_neighbours(row, pairs);
            }
        });
    pairs
}

/// `[rows, columns]` → `[rows / 2, columns]`, rounded up: joins neighbours in each column.
pub(super) fn across_rows(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    let mut pairs = vec![0.0; rows.div_ceil(2) * columns];
    let task = rows_per_task(2 * columns);
    pairs
        .par_chunks_mut((task * columns).max(1))
        .zip(matrix.par_chunks((2 * task * columns).max(1)))
        .for_each(|(pairs, rows)| {
            let rows = rows.chunks(2 * columns);
            for (pairs, two) in pairs.chunks_exact_mut(columns).zip(rows) {
                let (low, high) = two.split_at(columns);
                join_rows(low, high, pairs);
            }
        });
    pairs
}

/// Returns the elements, rounded to `bf16` and stored as `f32`. On CPUs without the instruction, this gives
/// the same results except for the order of the sums.
pub(super) fn rounded_each(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.par_chunks_mut(TASK).for_each(round_all);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn rounding_is_that_of_bf16() {
        let specials = [
            0.0,
            -0.0,
            1.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE,
            // Ties, which are rounded to the even neighbour.
            f32::from_bits(0x3f80_8000),
            f32::from_bits(0x3f81_8000),
            f32::from_bits(0x3f80_8001),
        ];
        let many = (0..100_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        for x in specials.into_iter().chain(many) {
            let (found, expected) = (rounded(x), bf16::from_f32(x));
            if expected.is_nan() {
                assert!(bf16::from_bits(found as u16).is_nan(), "{x}");
            } else {
                assert_eq!(found, u32::from(expected.to_bits()), "{x}");
            }
        }
    }

    #[test]
    fn pairs_are_neighbours() {
        let halves = |pairs: &[f32]| -> Vec<[f32; 2]> {
            let of = |pair: &f32| {
                let bits = pair.to_bits();
                [bits << 16, bits & 0xffff_0000].map(f32::from_bits)
            };
            pairs.iter().map(of).collect()
        };
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let along = halves(&along_rows(&values, 3));
        assert_eq!(along, [[1.0, 2.0], [3.0, 0.0], [4.0, 5.0], [6.0, 0.0]]);
        let across = halves(&across_rows(&values, 2));
        assert_eq!(across, [[1.0, 3.0], [2.0, 4.0], [5.0, 0.0], [6.0, 0.0]]);
    }
}
