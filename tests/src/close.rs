//! Comparisons of computed values within tolerances.

/// The largest error that a different order of rounding explains, relative to the largest expected magnitude.
/// For comparison, confusing the exact GELU with its tanh form causes an error of 1.2e-4.
pub const TOLERANCE: f32 = 2e-5;

/// Checks that no value differs by more than [`TOLERANCE`] × the largest expected magnitude.
///
/// # Panics
///
/// If a value does, or the numbers of values differ.
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
         magnitude {scale}, the tolerance is {TOLERANCE:.0e}",
        found.len(),
        found[worst],
        expected[worst],
    );
}

/// The smallest accepted cosine between a token computed in `bf16` and the same token in `f32`.
pub const LEAST_COSINE: f64 = 0.999;

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Checks that the cosine of each token of `width` values with the expected one is at least `least`, and that some
/// values differ. If none did, nothing would have been rounded to `bf16`.
///
/// # Panics
///
/// If a check fails, or the numbers of values differ.
#[track_caller]
pub fn assert_aligned(what: &str, found: &[f32], expected: &[f32], width: usize, least: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: the number of values");
    let tokens = found.chunks_exact(width).zip(expected.chunks_exact(width));
    for (token, (found, expected)) in tokens.enumerate() {
        let cosine = cosine(found, expected);
        assert!(
            cosine >= least,
            "{what}: token {token} has a cosine of {cosine} with the expected one, at least {least} is required"
        );
    }
    let scale = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let rounded = |(found, expected): (&f32, &f32)| (found - expected).abs() > TOLERANCE * scale;
    assert!(
        found.iter().zip(expected).any(rounded),
        "{what}: computed in f32"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "token 1 has a cosine of 0.9")]
    fn a_different_direction_fails() {
        assert_aligned(
            "x",
            &[1.0, 0.01, 1.0, 0.1],
            &[1.0, 0.0, 1.0, 0.0],
            2,
            LEAST_COSINE,
        );
    }

    #[test]
    #[should_panic(expected = "computed in f32")]
    fn identical_values_are_not_bf16() {
        assert_aligned("x", &[1.0, 0.01], &[1.0, 0.01], 2, LEAST_COSINE);
    }

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
