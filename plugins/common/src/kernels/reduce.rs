//! Sums over rows, in an order that fills vector registers.

/// How many partial sums a reduction keeps, so that it fills vector registers.
pub(crate) const LANES: usize = 16;

/// The sum of `map` over all pairs of elements, in [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn reduce(a: &[f32], b: &[f32], map: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] = map(sums[lane], x[lane], y[lane]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    a_rest
        .iter()
        .zip(b_rest)
        .fold(sums[0], |sum, (&x, &y)| map(sum, x, y))
}
