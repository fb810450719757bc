//! The geometry of a resize in integers: sizes, bars and crops.

use std::ops::Range;

use super::ResizeStrategy;

/// One axis of a resize: the frame is padded with bars, scaled and cropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis {
    /// Size of the frame in pixels.
    pub(super) source: usize,
    /// Size of the bars before and after the frame.
    pub(super) bar: usize,
    /// Size to which the padded frame is scaled.
    pub(super) scaled: usize,
    /// The pixels that the crop keeps.
    pub(super) kept: Range<usize>,
}

impl Axis {
    /// Returns the size of the padded frame.
    pub(super) fn padded(&self) -> usize {
        self.source + 2 * self.bar
    }
}

/// Returns the column and row axes that turn a `width`×`height` frame into a square of `image_size`.
///
/// Matches `siglip.py` and `base_video.py` of the original with torchvision's `Resize` and `CenterCrop`. Requires
/// `short_side` ≥ `image_size`.
pub(super) fn axes(
    strategy: ResizeStrategy,
    (width, height): (usize, usize),
    image_size: usize,
    short_side: usize,
) -> (Axis, Axis) {
    if strategy == ResizeStrategy::ResizeNaive {
        let whole = |source| Axis {
            source,
            bar: 0,
            scaled: image_size,
            kept: 0..image_size,
        };
        return (whole(width), whole(height));
    }
    let long = width.max(height);
    // If the difference is odd, the padded frame is one pixel short of square, as in the original.
    let bar = |side| match strategy {
        ResizeStrategy::Letterbox => (long - side) / 2,
        _ => 0,
    };
    let (w, h) = (width + 2 * bar(width), height + 2 * bar(height));
    let scaled = |side: usize| short_side * side / w.min(h);
    let axis = |source, side| {
        let scaled = scaled(side);
        Axis {
            source,
            bar: bar(source),
            scaled,
            kept: centre(scaled, image_size),
        }
    };
    (axis(width, w), axis(height, h))
}

/// Returns the central `kept` of `length` pixels. Half pixels are rounded to even, like Python's `round`.
pub(super) fn centre(length: usize, kept: usize) -> Range<usize> {
    let spare = length.saturating_sub(kept);
    let half = spare / 2;
    let first = if spare % 2 == 1 {
        half + half % 2
    } else {
        half
    };
    first..first + kept
}
