//! Pillow's resize of 8-bit pictures, byte for byte.
//!
//! `src/libImaging/Resample.c`: each pass convolves with weights of 22 fractional bits and rounds to
//! 8 bits, columns first, rows on their rounded result; a pass that would change nothing is left
//! out. (fast_image_resize weighs with 16 bits and comes out one off here and there.)
//!
//! Only the pixels that the crop keeps are computed, and bars are never stored, so neither an
//! extreme aspect ratio nor a wide letterbox costs memory.

use std::borrow::Cow;
use std::ops::Range;

use merv_plugin_api::Interpolation;

use super::geometry::Axis;
use crate::video::RgbFrame;

/// Fractional bits of a weight: 32, less 8 of the pixel and 2 for sums beyond 0 to 255.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Resizes a frame along `columns` and `rows`, bars filled with `fill`.
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
    let across = (columns.scaled != columns.padded())
        .then(|| Weights::new(columns.padded(), columns.scaled, &columns.kept, interpolation));
    let down = (rows.scaled != rows.padded())
        .then(|| Weights::new(rows.padded(), rows.scaled, &rows.kept, interpolation));

    let width = columns.kept.len();
    let needed = down.as_ref().map_or(rows.kept.clone(), Weights::reach);
    let squeeze = |line: &[[u8; 3]], into: &mut Vec<[u8; 3]>| match &across {
        Some(weights) => weights.along(line, into),
        None => into.extend_from_slice(&line[columns.kept.clone()]),
    };

    let pixels = frame.data.as_chunks::<3>().0;
    let mut bar = Vec::new();
    let mut lines: Vec<[u8; 3]> = Vec::with_capacity(needed.len() * width);
    for y in needed.clone() {
        let inside = y.checked_sub(rows.bar).filter(|&y| y < rows.source);
        match inside {
            Some(y) => squeeze(&with_bars(&pixels[y * frame.width..][..frame.width], columns, fill), &mut lines),
            None => {
                if bar.is_empty() {
                    squeeze(&vec![fill; columns.padded()], &mut bar);
                }
                lines.extend_from_slice(&bar);
            }
        }
    }
    match down {
        Some(weights) => weights.across(lines.as_flattened(), needed.start, width * 3),
        None => lines.into_flattened(),
    }
}

/// A row of the frame with `fill` on both sides.
fn with_bars<'a>(line: &'a [[u8; 3]], columns: &Axis, fill: [u8; 3]) -> Cow<'a, [[u8; 3]]> {
    if columns.bar == 0 {
        return Cow::Borrowed(line);
    }
    let mut padded = vec![fill; columns.padded()];
    padded[columns.bar..][..line.len()].copy_from_slice(line);
    Cow::Owned(padded)
}

/// The source pixels that make each target pixel, and what each counts.
struct Weights {
    /// First source pixel, and where its weights lie in `all`, a target pixel each.
    spans: Vec<(usize, Range<usize>)>,
    all: Vec<i32>,
}

impl Weights {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc`, for the `kept` target pixels alone.
    fn new(source: usize, target: usize, kept: &Range<usize>, filter: Interpolation) -> Self {
        let scale = source as f64 / target as f64;
        // When enlarging, the filter keeps its own width: only shrinking needs antialiasing.
        let stretch = scale.max(1.0);
        let support = reach_of(filter) * stretch;
        let per_pixel = 1.0 / stretch;

        let mut spans = Vec::with_capacity(kept.len());
        let mut all = Vec::new();
        let mut exact = Vec::new();
        for x in kept.clone() {
            let centre = (x as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            exact.clear();
            exact.extend((first..end).map(|at| {
                let from_first = (at - first) as f64;
                weight(filter, (from_first + first as f64 - centre + 0.5) * per_pixel)
            }));
            let sum: f64 = exact.iter().sum();
            let begin = all.len();
            all.extend(exact.iter().map(|&weight| {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                let fixed = weight * f64::from(1u32 << PRECISION_BITS);
                (fixed + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
            }));
            spans.push((first, begin..all.len()));
        }
        Self { spans, all }
    }

    /// The source pixels that are used at all.
    fn reach(&self) -> Range<usize> {
        let first = self.spans.iter().map(|(first, _)| *first).min().unwrap_or(0);
        let end = self.spans.iter().map(|(first, at)| first + at.len()).max().unwrap_or(0);
        first..end
    }

    /// Resizes one row.
    fn along(&self, line: &[[u8; 3]], into: &mut Vec<[u8; 3]>) {
        into.extend(self.spans.iter().map(|(first, at)| {
            let weights = &self.all[at.clone()];
            let [mut red, mut green, mut blue] = [HALF; 3];
            for (&[r, g, b], &weight) in line[*first..].iter().zip(weights) {
                red += i32::from(r) * weight;
                green += i32::from(g) * weight;
                blue += i32::from(b) * weight;
            }
            [clip8(red), clip8(green), clip8(blue)]
        }));
    }

    /// Resizes all columns of `lines`, which are `stride` bytes long and begin with source row
    /// `start`.
    fn across(&self, lines: &[u8], start: usize, stride: usize) -> Vec<u8> {
        let mut resized = Vec::with_capacity(self.spans.len() * stride);
        let mut sums = vec![HALF; stride];
        for (first, at) in &self.spans {
            sums.fill(HALF);
            let below = lines[(first - start) * stride..].chunks_exact(stride);
            for (line, &weight) in below.zip(&self.all[at.clone()]) {
                for (sum, &value) in sums.iter_mut().zip(line) {
                    *sum += i32::from(value) * weight;
                }
            }
            resized.extend(sums.iter().map(|&sum| clip8(sum)));
        }
        resized
    }
}

/// Rounds the sum of weighted pixels when [`clip8`] shifts it.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// How far a filter reaches to each side, in source pixels when not shrinking.
fn reach_of(filter: Interpolation) -> f64 {
    match filter {
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
    }
}

fn weight(filter: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Interpolation::Bilinear if x < 1.0 => 1.0 - x,
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}
