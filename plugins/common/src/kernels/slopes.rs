//! Finite differences, which the tests of backward passes compare gradients with.

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// Returns the derivative of `value` with respect to element `at` of `input`.
pub(crate) fn slope(input: &[f32], at: usize, value: impl Fn(&[f32]) -> f64) -> f64 {
    const STEP: f32 = 1e-2;
    let moved = |by: f32| {
        let mut input = input.to_vec();
        input[at] += by;
        value(&input)
    };
    (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP))
}

pub(crate) fn assert_slope(what: &str, found: f32, expected: f64) {
    let error = (f64::from(found) - expected).abs();
    assert!(
        error < 2e-3 * (1.0 + expected.abs()),
        "{what}: {found} is not {expected}"
    );
}
