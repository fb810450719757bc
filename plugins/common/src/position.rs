//! Position embeddings for another grid than the one they were trained on.

/// Resamples a square grid of embeddings as timm's `resample_abs_pos_embed` does: bicubic (a = −0.5),
/// antialiased when shrinking (`torch.nn.functional.interpolate(antialias=True)`).
///
/// # Shapes
///
/// `[from · from, width]` → `[to · to, width]`
pub fn resample(grid: Vec<f32>, from: usize, to: usize, width: usize) -> Vec<f32> {
    if from == to || grid.len() != from * from * width {
        // The second is a tensor that did not fit, which `weights::load` reports.
        return grid;
    }
    let taps: Vec<(usize, Vec<f32>)> = (0..to).map(|i| weights(i, from, to)).collect();
    let mut narrow = vec![0.0; from * to * width];
    for y in 0..from {
        for (x, (first, weights)) in taps.iter().enumerate() {
            let out = &mut narrow[(y * to + x) * width..][..width];
            for (tap, weight) in weights.iter().enumerate() {
                accumulate(
                    out,
                    &grid[(y * from + first + tap) * width..][..width],
                    *weight,
                );
            }
        }
    }
    let mut resampled = vec![0.0; to * to * width];
    for (y, (first, weights)) in taps.iter().enumerate() {
        for x in 0..to {
            let out = &mut resampled[(y * to + x) * width..][..width];
            for (tap, weight) in weights.iter().enumerate() {
                accumulate(
                    out,
                    &narrow[((first + tap) * to + x) * width..][..width],
                    *weight,
                );
            }
        }
    }
    resampled
}

fn accumulate(out: &mut [f32], row: &[f32], weight: f32) {
    for (out, value) in out.iter_mut().zip(row) {
        *out += value * weight;
    }
}

/// The first input and the weights that make up output `index`.
fn weights(index: usize, from: usize, to: usize) -> (usize, Vec<f32>) {
    let scale = from as f32 / to as f32;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let centre = scale * (index as f32 + 0.5);
    let first = (centre - support + 0.5).max(0.0) as usize;
    let last = ((centre + support + 0.5) as usize).min(from);
    let mut weights: Vec<f32> = (first..last)
        .map(|j| cubic((j as f32 - centre + 0.5) / stretch))
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    (first, weights)
}

/// Keys' cubic convolution kernel with a = −0.5.
fn cubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
