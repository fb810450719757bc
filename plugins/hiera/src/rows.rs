//! Rows in another order, and their poolings.

/// Returns the rows of `x` in `order`.
pub fn gather(x: &[f32], order: &[usize], width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(x.len());
    for &row in order {
        rows.extend_from_slice(&x[row * width..][..width]);
    }
    rows
}

/// Inverts [`gather`]: row `i` moves to row `order[i]`.
pub fn scatter(x: &[f32], order: &[usize], width: usize) -> Vec<f32> {
    let mut rows = vec![0.0; x.len()];
    for (row, &place) in x.chunks_exact(width).zip(order) {
        rows[place * width..][..width].copy_from_slice(row);
    }
    rows
}

/// Returns the elementwise maximum over `parts` equal parts of `x`.
pub fn pool(x: &[f32], parts: usize) -> Vec<f32> {
    let mut parts = x.chunks_exact((x.len() / parts).max(1));
    let mut maxima = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        for (maximum, &value) in maxima.iter_mut().zip(part) {
            *maximum = maximum.max(value);
        }
    }
    maxima
}

#[cfg(test)]
mod tests {
    use super::*;
    use merv_plugin_sdk::architectures::hiera::order;

    #[test]
    fn pooling_is_a_maximum_over_squares() {
        // One frame of 4 × 4 tokens.
        let places = order([1, 4, 4], &[[1, 2, 2]]);
        let rows: Vec<f32> = (0..16).map(|x| x as f32).collect();
        let unrolled = gather(&rows, &places, 1);
        assert_eq!(pool(&unrolled, 4), [5., 7., 13., 15.]);
        assert_eq!(scatter(&unrolled, &places, 1), rows);
    }
}
