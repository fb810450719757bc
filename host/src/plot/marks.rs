//! The elements of a chart, lines and texts, independent of the output format.

/// A colour.
pub(super) type Rgb = [u8; 3];

/// The position of a text relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// To the right of the point.
    Start,
    /// Centred on the point.
    Middle,
    /// To the left of the point.
    End,
}

/// An element to draw.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    Line {
        points: Vec<[f32; 2]>,
        colour: Rgb,
        width: f32,
    },
    Text {
        /// The point on the baseline.
        at: [f32; 2],
        /// The font size.
        size: f32,
        anchor: Anchor,
        colour: Rgb,
        text: String,
    },
}

/// A chart that has not been rendered yet, in pixels, on a white background.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    pub width: u32,
    pub height: u32,
    pub marks: Vec<Mark>,
}
