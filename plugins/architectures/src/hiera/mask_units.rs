//! An order of tokens in which poolings and mask units are regular strides (arXiv 2306.00989;
//! `Unroll` and `Reroll` of `hiera/hiera_utils.py`).
//!
//! A pooling takes the maximum over tokens that differ only in the lowest digits of their coordinates. In
//! this order, the digits of the first pooling are the most significant ones. The digits of the second
//! pooling follow, and so on. The remaining digits, the number of the mask unit, are the least significant
//! ones. A pooling is therefore a maximum over equal parts of the sequence, and a mask unit consists of
//! every `units`-th token.

/// Returns the token at each position of the order. Tokens are numbered row by row.
///
/// `strides` are the strides of the poolings. They must divide `size` one after the other.
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

/// Returns all coordinates of a grid, row by row.
fn grid([t, h, w]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..t * h * w).map(move |index| (index / (h * w), index / w % h, index % w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pooling_has_the_highest_digits() {
        // One frame of 4 × 4 tokens. Its second square has tokens 2, 3, 6 and 7.
        let places = order([1, 4, 4], &[[1, 2, 2]]);
        assert_eq!(places[..8], [0, 2, 8, 10, 1, 3, 9, 11]);
    }

    #[test]
    fn mask_units_are_strided() {
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
