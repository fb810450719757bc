//! Pillow's resize of 8-bit images, reproduced byte for byte.
//!
//! Follows `src/libImaging/Resample.c` of Pillow 13. Each pass convolves with weights of 22 fractional bits and
//! rounds to 8 bits. The second pass uses the rounded result of the first, so the order of the passes matters.
//! (fast_image_resize uses 16-bit weights and another order. It differs from Pillow 13 by one in most images, and
//! by up to five.)
//!
//! Only the pixels that the crop keeps are computed, and bars are never stored. Extreme aspect ratios and wide
//! letterboxes therefore need no extra memory.

use std::ops::Range;

use merv_plugin_api::Interpolation;

use super::geometry::Axis;
use crate::video::RgbFrame;

/// Fractional bits of a weight: 32 bits minus 8 for the pixel and 2 for sums outside 0 to 255.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The weight of a pixel that is copied.
const ONE: i32 = 1 << PRECISION_BITS;

/// Added to the weighted sum so that [`clip8`] rounds.
const HALF: i32 = ONE / 2;

/// Resizes a frame along `columns` and `rows`. Bars have the colour `fill`.
///
/// # Shapes
/// `[height, width, 3]` → `[rows.kept, columns.kept, 3]`
pub(super) fn resize(
    frame: &RgbFrame,
    columns: &Axis,
    rows: &Axis,
    interpolation: Interpolation,
    fill: [u8; 3],
) -> Vec<u8> {
    let across = Weights::new(columns, interpolation);
    let down = Weights::new(rows, interpolation);
    let pixels = frame.data.as_chunks::<3>().0;
    let width = columns.kept.len();
    if rows_first(columns, rows) {
        let bar = vec![fill; frame.width];
        let lines = down.columns(&frame.data, 0, bar.as_flattened());
        let lines = lines.as_chunks::<3>().0.chunks_exact(frame.width);
        let mut resized = Vec::with_capacity(rows.kept.len() * width);
        for (line, bar) in lines.zip(down.uniform_line(fill)) {
            across.row(line, bar, &mut resized);
        }
        resized.into_flattened()
    } else {
        let needed = down.used_range();
        let mut lines = Vec::with_capacity(needed.len() * width);
        for y in needed.clone() {
            across.row(&pixels[y * frame.width..][..frame.width], fill, &mut lines);
        }
        let bar: Vec<_> = across.uniform_line(fill).collect();
        down.columns(lines.as_flattened(), needed.start, bar.as_flattened())
    }
}

/// Whether Pillow resizes vertically first. Since release 13, it does if the height shrinks by more than twice as
/// many pixels as the width. Earlier releases never do.
fn rows_first(columns: &Axis, rows: &Axis) -> bool {
    let shrinks_by = |axis: &Axis| axis.padded() as i64 - axis.scaled as i64;
    shrinks_by(rows) > 0 && shrinks_by(rows) > 2 * shrinks_by(columns)
}

/// How the kept pixels of an axis are computed from those of the frame.
struct Weights {
    spans: Vec<Span>,
    /// The weights of all spans, concatenated.
    weights: Vec<i32>,
}

/// The source pixels of one target pixel.
struct Span {
    /// The first pixel of the frame that contributes.
    first: usize,
    /// The range of the weights of this pixel and the following ones.
    at: Range<usize>,
    /// The total weight of the bars' pixels.
    bar: i32,
}

impl Weights {
    /// Computes the weights like `precompute_coeffs` and `normalize_coeffs_8bpc`, but only for the kept pixels.
    fn new(axis: &Axis, filter: Interpolation) -> Self {
        let mut weights = Self {
            spans: Vec::with_capacity(axis.kept.len()),
            weights: Vec::new(),
        };
        if axis.padded() == axis.scaled {
            // Pillow skips the pass.
            for at in axis.kept.clone() {
                weights.push(axis, at, [ONE].into_iter());
            }
            return weights;
        }
        let scale = axis.padded() as f64 / axis.scaled as f64;
        // Only shrinking needs antialiasing, so the filter is not narrowed when enlarging.
        let stretch = scale.max(1.0);
        let support = radius(filter) * stretch;
        let per_pixel = 1.0 / stretch;

        let mut exact = Vec::new();
        for target in axis.kept.clone() {
            let centre = (target as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(axis.padded());
            exact.clear();
            exact.extend(
                (first..end).map(|at| weight(filter, (at as f64 - centre + 0.5) * per_pixel)),
            );
            let sum: f64 = exact.iter().sum();
            let fixed = exact.iter().map(|&weight| {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                (weight * f64::from(ONE) + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
            });
            weights.push(axis, first, fixed);
        }
        weights
    }

    /// Adds a target pixel with its `weights`. The first weight belongs to pixel `first` of the padded frame.
    fn push(&mut self, axis: &Axis, first: usize, weights: impl Iterator<Item = i32>) {
        let frame = axis.bar..axis.bar + axis.source;
        let begin = self.weights.len();
        let mut bar = 0;
        for (at, weight) in (first..).zip(weights) {
            if frame.contains(&at) {
                self.weights.push(weight);
            } else {
                bar += weight;
            }
        }
        let first = first.max(axis.bar) - axis.bar;
        self.spans.push(Span {
            first,
            at: begin..self.weights.len(),
            bar,
        });
    }

    /// Returns the range of the frame's pixels that are used.
    fn used_range(&self) -> Range<usize> {
        let used = || self.spans.iter().filter(|span| !span.at.is_empty());
        let first = used().map(|span| span.first).min().unwrap_or(0);
        let end = used()
            .map(|span| span.first + span.at.len())
            .max()
            .unwrap_or(0);
        first..end
    }

    /// Resizes a line of the uniform colour `fill`. The result differs from `fill` only by rounding.
    fn uniform_line(&self, fill: [u8; 3]) -> impl Iterator<Item = [u8; 3]> {
        self.spans.iter().map(move |span| {
            let whole = span.bar + self.weights[span.at.clone()].iter().sum::<i32>();
            fill.map(|value| clip8(HALF + i32::from(value) * whole))
        })
    }

    /// Resizes one row of pixels with bars of the colour `bar` before and after it.
    fn row(&self, line: &[[u8; 3]], bar: [u8; 3], into: &mut Vec<[u8; 3]>) {
        into.extend(self.spans.iter().map(|span| {
            let [mut red, mut green, mut blue] =
                bar.map(|value| HALF + i32::from(value) * span.bar);
            let weights = &self.weights[span.at.clone()];
            for (&[r, g, b], &weight) in line.iter().skip(span.first).zip(weights) {
                red += i32::from(r) * weight;
                green += i32::from(g) * weight;
                blue += i32::from(b) * weight;
            }
            [clip8(red), clip8(green), clip8(blue)]
        }));
    }

    /// Resizes every column of `lines`, which begin with row `start` of the frame. `bar` is the line above and below
    /// them, and has the same length.
    fn columns(&self, lines: &[u8], start: usize, bar: &[u8]) -> Vec<u8> {
        let stride = bar.len();
        let mut resized = Vec::with_capacity(self.spans.len() * stride);
        let mut sums = vec![HALF; stride];
        for span in &self.spans {
            for (sum, &value) in sums.iter_mut().zip(bar) {
                *sum = HALF + i32::from(value) * span.bar;
            }
            let weights = &self.weights[span.at.clone()];
            let used = lines
                .chunks_exact(stride)
                .skip(span.first.saturating_sub(start));
            for (line, &weight) in used.zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(line) {
                    *sum += i32::from(value) * weight;
                }
            }
            resized.extend(sums.iter().map(|&sum| clip8(sum)));
        }
        resized
    }
}

fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Returns the radius of a filter, in source pixels when not shrinking.
fn radius(filter: Interpolation) -> f64 {
    match filter {
        Interpolation::BICUBIC => 2.0,
        _ => 1.0,
    }
}

fn weight(filter: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Interpolation::BICUBIC if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::BICUBIC if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        Interpolation::BILINEAR if x < 1.0 => 1.0 - x,
        _ => 0.0,
    }
}
