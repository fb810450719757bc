//! The order of tokens in which pooling and mask units are plain strides (arXiv 2306.00989;
//! `Unroll` and `Reroll` of `hiera/hiera_utils.py`).
//!
//! A pooling takes the maximum over tokens that differ in the lowest digits of their coordinates. In this
//! order the digits that the first pooling takes come first, then those of the second, and so on; what is
//! left of the coordinates, the number of the mask unit, comes last. A pooling is then a maximum over
//! equal parts of the sequence, and a mask unit every `units`-th token.

/// For every place in the order, the token that stands there, numbered row by row.
///
/// `strides`, which have to divide `size` one after the other, are those of the poolings in turn.
pub fn order(size: [usize; 3], strides: &[[usize; 3]]) -> Vec<usize> {
    let Some((&[t, h, w], rest)) = strides.split_first() else {
        return (0..size.iter().product()).collect();
    };
    let inner = [size[0] / t, size[1] / h, size[2] / w];
    let parts = order(inner, rest);
    let mut places = Vec::with_capacity(size.iter().product());
    for (time, row, column) in grid([t, h, w]) {
        places.extend(parts.iter().map(|&part| {
            let (y, x) = (part / inner[2] % inner[1], part % inner[2]);
            let time = part / (inner[1] * inner[2]) * t + time;
            (time * size[1] + y * h + row) * size[2] + x * w + column
        }));
    }
    places
}

/// All coordinates of a grid, row by row.
fn grid([t, h, w]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..t * h * w).map(move |index| (index / (h * w), index / w % h, index % w))
}

/// The rows of `x` in `order`.
pub fn gather(x: &[f32], order: &[usize], width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(x.len());
    for &row in order {
        rows.extend_from_slice(&x[row * width..][..width]);
    }
    rows
}

/// The inverse of [`gather`]: row `i` goes to place `order[i]`.
pub fn scatter(x: &[f32], order: &[usize], width: usize) -> Vec<f32> {
    let mut rows = vec![0.0; x.len()];
    for (row, &place) in x.chunks_exact(width).zip(order) {
        rows[place * width..][..width].copy_from_slice(row);
    }
    rows
}

/// The maximum over `parts` equal parts of `x`, element by element.
pub fn pool(x: &[f32], parts: usize) -> Vec<f32> {
    let mut parts = x.chunks_exact((x.len() / parts).max(1));
    let mut most = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        for (most, &value) in most.iter_mut().zip(part) {
            *most = most.max(value);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_is_a_maximum_over_squares() {
        // 1 frame of 4 × 4: the square in the middle of the second row is tokens 2, 3, 6, 7.
        let places = order([1, 4, 4], &[[1, 2, 2]]);
        assert_eq!(places[..8], [0, 2, 8, 10, 1, 3, 9, 11]);
        let rows: Vec<f32> = (0..16).map(|x| x as f32).collect();
        let unrolled = gather(&rows, &places, 1);
        assert_eq!(pool(&unrolled, 4), [5., 7., 13., 15.]);
        assert_eq!(scatter(&unrolled, &places, 1), rows);
    }

    #[test]
    fn a_mask_unit_is_every_units_th_token() {
        let places = order([1, 8, 8], &[[1, 2, 2]; 2]);
        let unit: Vec<_> = places
            .iter()
            .skip(1)
            .step_by(4)
            .map(|token| (token / 8 / 4, token % 8 / 4))
            .collect();
        assert_eq!(unit, [(0, 1); 16]);
    }
}
