//! torch's resize: bilinear, on normalised floats, without antialiasing.
//!
//! Matches LanguageBind's transform (`languagebind/video/processing_video.py`: `ShortSideScale`, then
//! `CenterCropVideo`), which uses `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.

use std::ops::Range;

use super::geometry::centre;
use super::normalize::NormalizationTable;
use crate::video::RgbFrame;

/// Normalises a frame, scales its short side to `short_side`, and crops the central
/// `image_size`×`image_size` pixels. Requires `short_side` ≥ `image_size`.
///
/// # Shapes
/// `[height, width, 3]` → `[3, image_size, image_size]`
pub(super) fn resize(
    frame: &RgbFrame,
    image_size: usize,
    short_side: usize,
    table: &NormalizationTable,
    into: &mut [f32],
) {
    let (width, height) = (frame.width, frame.height);
    // Computed in doubles and rounded down, as in the original.
    let long = |long: usize, short: usize| {
        ((long as f64 / short as f64) * short_side as f64).floor() as usize
    };
    let (new_width, new_height) = if width < height {
        (short_side, long(height, width))
    } else {
        (long(width, height), short_side)
    };
    let columns = taps(width, new_width, centre(new_width, image_size));
    let rows = taps(height, new_height, centre(new_height, image_size));

    let (pixels, _) = frame.data.as_chunks::<3>();
    let plane = image_size * image_size;
    for (row, y) in rows.iter().enumerate() {
        let above = &pixels[y.first * width..][..width];
        let below = &pixels[y.second * width..][..width];
        for (column, x) in columns.iter().enumerate() {
            let corners = [
                above[x.first],
                above[x.second],
                below[x.first],
                below[x.second],
            ];
            for channel in 0..3 {
                let [a, b, c, d] = corners.map(|pixel| table.get(channel, pixel[channel]));
                let upper = (1.0 - x.share) * a + x.share * b;
                let lower = (1.0 - x.share) * c + x.share * d;
                into[channel * plane + row * image_size + column] =
                    (1.0 - y.share) * upper + y.share * lower;
            }
        }
    }
}

/// The two source pixels from which a target pixel is interpolated.
struct Tap {
    first: usize,
    second: usize,
    /// The weight of the second one.
    share: f32,
}

/// torch's `area_pixel_compute_source_index`, in single precision.
fn taps(source: usize, target: usize, kept: Range<usize>) -> Vec<Tap> {
    let scale = source as f32 / target as f32;
    kept.map(|at| {
        let exact = (scale * (at as f32 + 0.5) - 0.5).max(0.0);
        let first = (exact as usize).min(source - 1);
        let share = (exact - first as f32).clamp(0.0, 1.0);
        Tap {
            first,
            second: (first + 1).min(source - 1),
            share,
        }
    })
    .collect()
}
