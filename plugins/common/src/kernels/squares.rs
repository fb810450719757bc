//! The sum of squares of a gradient.

use rayon::prelude::*;

/// The number of values that are squared and summed at a time. It is fixed, so the sum does not depend on the
/// number of threads.
const SUMMED_TOGETHER: usize = 1 << 15;

/// Returns the sum of the squares of some numbers in double precision. It does not depend on the number of threads.
pub fn squares(values: &[f32]) -> f64 {
    let sums: Vec<f64> = values
        .par_chunks(SUMMED_TOGETHER)
        .map(|chunk| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        .collect();
    sums.iter().sum()
}
