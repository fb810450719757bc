//! What the mixer must know of an encoder.

/// What the mixer must know of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// D: the width of a feature.
    pub width: usize,
    /// T: temporal positions.
    pub temporal: usize,
    /// S: features per temporal position.
    pub spatial: usize,
}
