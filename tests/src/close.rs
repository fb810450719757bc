//! When two computations count as the same.

/// The largest error that rounding in another order explains, as a part of the largest magnitude
/// expected. An exact GELU taken for the tanh form is off by 1.2e-4.
pub const TOLERANCE: f32 = 2e-5;

/// Checks that no value is off by more than [`TOLERANCE`] × the largest magnitude expected.
///
/// # Panics
///
/// When one is, or the numbers of values differ.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: the number of values");
    let scale = expected
        .iter()
        .fold(0f32, |largest, x| largest.max(x.abs()));
    assert!(
        scale.is_finite() && scale > 0.0,
        "{what}: nothing to compare with (scale {scale})"
    );
    let error = |i: usize| {
        let error = (found[i] - expected[i]).abs();
        if error.is_nan() { f32::INFINITY } else { error }
    };
    let worst = (0..found.len())
        .max_by(|&a, &b| error(a).total_cmp(&error(b)))
        .unwrap_or(0);
    let relative = error(worst) / scale;
    assert!(
        relative <= TOLERANCE,
        "{what}: value {worst} of {} is {}, expected {}: off by {relative:.2e} of the largest \
         magnitude {scale}, allowed are {TOLERANCE:.0e}",
        found.len(),
        found[worst],
        expected[worst],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_passes() {
        assert_close("x", &[100.0, 0.001], &[100.001, 0.0]);
    }

    #[test]
    #[should_panic(expected = "value 1 of 2 is 0.003, expected 0")]
    fn more_than_rounding_fails() {
        assert_close("x", &[100.0, 0.003], &[100.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "value 0 of 2 is NaN")]
    fn nan_fails() {
        assert_close("x", &[f32::NAN, 1.0], &[1.0, 1.0]);
    }
}
