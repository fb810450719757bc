//! What a chart is made of: lines and texts, wherever they are drawn.

/// A colour.
pub(super) type Rgb = [u8; 3];

/// Where a text is, seen from its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Right of it.
    Start,
    /// Around it.
    Middle,
    /// Left of it.
    End,
}

/// One thing to draw.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    Line {
        points: Vec<[f32; 2]>,
        colour: Rgb,
        width: f32,
    },
    Text {
        /// The foot of the letters.
        at: [f32; 2],
        /// How high a line of it is.
        size: f32,
        anchor: Anchor,
        colour: Rgb,
        text: String,
    },
}

/// A picture that is not drawn yet: on white, in pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    pub width: u32,
    pub height: u32,
    pub marks: Vec<Mark>,
}
