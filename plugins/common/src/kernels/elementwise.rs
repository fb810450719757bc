//! `exp`, `erf` and the activations, accurate to a few units in the last place of `f32`.

/// `e^x`, flushed to 0 below −87.3 and capped at `e^88.3`, so that the exponent bits of `2^n` do not
/// overflow.
///
/// With `x = n·ln 2 + r` and `|r| ≤ ln 2 / 2`, `e^r` is the Taylor polynomial of degree 7 (error below one
/// unit in the last place) and `2^n` is written to the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5·2^23: adding it rounds to an integer, which is then in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts. The first one has trailing zeros, which makes `n · LN2_HIGH` exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    p = r.mul_add(p, 1.0 / 720.0);
    p = r.mul_add(p, 1.0 / 120.0);
    p = r.mul_add(p, 1.0 / 24.0);
    p = r.mul_add(p, 1.0 / 6.0);
    p = r.mul_add(p, 0.5);
    p = r.mul_add(p, 1.0);
    p = r.mul_add(p, 1.0);
    let power = f32::from_bits(
        shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127)
            << 23,
    );
    if x < -87.3 { 0.0 } else { p * power }
}

/// The error function, with the rational approximation of degree 13 over 8 from Eigen and XLA. Beyond ±4 it
/// is ±1 in `f32`.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142e-10;
    p = s.mul_add(p, 2.770_681_5e-8);
    p = s.mul_add(p, -2.101_024e-6);
    p = s.mul_add(p, -5.692_506_4e-5);
    p = s.mul_add(p, -7.349_906_4e-4);
    p = s.mul_add(p, -2.954_6e-3);
    p = s.mul_add(p, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5;
    q = s.mul_add(q, -2.133_740_6e-4);
    q = s.mul_add(q, -1.682_827e-3);
    q = s.mul_add(q, -7.373_329e-3);
    q = s.mul_add(q, -1.426_474e-2);
    x * p / q
}

/// The logistic function.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The exact GELU, `x·Φ(x)` (arXiv 1606.08415; torch's `gelu(approximate="none")`).
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// GELU approximated with a hyperbolic tangent (torch's `approximate="tanh"`, Hugging Face's `gelu_fast`,
/// `gelu_new` and `gelu_pytorch_tanh`). `(1 + tanh(y)) / 2` is the logistic function of `2y`.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    /// √(2/π)
    const SCALE: f32 = 0.797_884_6;
    let y = SCALE * x * (0.044_715 * x).mul_add(x, 1.0);
    x * sigmoid(2.0 * y)
}

/// `x·σ(1.702x)`: the GELU of OpenAI's CLIP.
#[inline(always)]
pub fn quick_gelu(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

/// `x·σ(x)` (arXiv 1702.03118), also called swish.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// The derivative of [`gelu`]: `Φ(x) + x·φ(x)`.
#[inline(always)]
pub fn gelu_derivative(x: f32) -> f32 {
    /// 1/√(2π)
    const DENSITY: f32 = 0.398_942_3;
    let below = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    (x * DENSITY).mul_add(exp(-0.5 * x * x), below)
}

/// The derivative of [`gelu_tanh`].
#[inline(always)]
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    /// √(2/π)
    const SCALE: f32 = 0.797_884_6;
    let square = 0.044_715 * x * x;
    let share = sigmoid(2.0 * SCALE * x * (square + 1.0));
    let inner = 2.0 * SCALE * 3.0f32.mul_add(square, 1.0);
    (x * share * (1.0 - share)).mul_add(inner, share)
}

/// The derivative of [`quick_gelu`].
#[inline(always)]
pub fn quick_gelu_derivative(x: f32) -> f32 {
    let share = sigmoid(1.702 * x);
    (1.702 * x * share).mul_add(1.0 - share, share)
}

/// The derivative of [`silu`].
#[inline(always)]
pub fn silu_derivative(x: f32) -> f32 {
    let share = sigmoid(x);
    (x * share).mul_add(1.0 - share, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> impl Iterator<Item = f32> {
        (-200_000..=200_000).map(|i| i as f32 * 1e-4)
    }

    #[test]
    fn exp_agrees_with_libm() {
        for x in sweep().map(|x| x * 4.4) {
            let expected = libm::exp(f64::from(x));
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(
                error < 2.5e-7 || expected < 1.3e-38,
                "exp({x}): relative error {error:e}"
            );
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn erf_and_the_gelus_agree_with_libm() {
        for x in sweep() {
            let v = f64::from(x);
            let exact = libm::erf(v);
            assert!((f64::from(erf(x)) - exact).abs() < 4e-7, "erf({x})");
            let gelu_exact = 0.5 * v * (1.0 + libm::erf(v / std::f64::consts::SQRT_2));
            assert!(
                (f64::from(gelu(x)) - gelu_exact).abs() < 1e-6 * v.abs().max(1.0),
                "gelu({x})"
            );
            let tanh = libm::tanh((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v));
            let tanh_exact = 0.5 * v * (1.0 + tanh);
            assert!(
                (f64::from(gelu_tanh(x)) - tanh_exact).abs() < 1e-6 * v.abs().max(1.0),
                "gelu_tanh({x})"
            );
            let silu_exact = v / (1.0 + libm::exp(-v));
            assert!(
                (f64::from(silu(x)) - silu_exact).abs() < 1e-6 * v.abs().max(1.0),
                "silu({x})"
            );
        }
    }
}
