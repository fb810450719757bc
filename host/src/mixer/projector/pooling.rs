//! Adaptive average pooling as a product with a constant matrix: exact, and candle differentiates it.

use candle_core::{Device, Tensor};
use merv_plugin_sdk::Result;

/// `torch.nn.AdaptiveAvgPool2d` from a square grid of `from` to one of `to`, as the matrix
/// `[to · to, from · from]` that a flattened grid is multiplied with.
///
/// Window `i` of a side covers `floor(i · from / to) .. ceil((i + 1) · from / to)`.
pub fn square_pooling(from: usize, to: usize) -> Result<Tensor> {
    let window = |i: usize| (i * from / to)..((i + 1) * from).div_ceil(to);
    let mut matrix = vec![0.0f32; to * to * from * from];
    for y in 0..to {
        for x in 0..to {
            let (rows, columns) = (window(y), window(x));
            let share = 1.0 / (rows.len() * columns.len()) as f32;
            for row in rows {
                for column in columns.clone() {
                    matrix[(y * to + x) * from * from + row * from + column] = share;
                }
            }
        }
    }
    Ok(Tensor::from_vec(
        matrix,
        (to * to, from * from),
        &Device::Cpu,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_an_average() {
        for (from, to) in [(14, 8), (16, 8), (5, 3), (2, 3), (1, 1), (8, 8)] {
            let sums = square_pooling(from, to)
                .unwrap()
                .sum(1)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            assert!(
                sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6),
                "{from} to {to}: {sums:?}"
            );
        }
    }
}
