//! Where the pixels of a finished frame come from: sizes, bars and crops, in whole numbers.

use std::ops::Range;

use super::ResizeStrategy;

/// One axis of a resize: bars on both sides, scaled to a length of which a part is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis {
    /// Pixels of the frame.
    pub(super) source: usize,
    /// Pixels of bar before and after it.
    pub(super) bar: usize,
    /// Pixels that frame and bars are scaled to.
    pub(super) scaled: usize,
    /// Which of those are kept.
    pub(super) kept: Range<usize>,
}

impl Axis {
    /// Pixels of the frame with its bars.
    pub(super) fn padded(&self) -> usize {
        self.source + 2 * self.bar
    }
}

/// Columns and rows of a `width`×`height` frame that becomes a square of `image_size`.
///
/// As MERV's `siglip.py` and `base_video.py` with torchvision's `Resize` and `CenterCrop` do. Needs
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
    // An odd difference leaves the padded frame a pixel short of square, as it does there.
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

/// The middle `kept` of `length` pixels; a half pixel goes to the even side (Python's `round`).
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
