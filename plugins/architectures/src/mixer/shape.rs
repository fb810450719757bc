//! The shape of an encoder's features.

/// The shape of an encoder's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// D: the width of a feature.
    pub width: usize,
    /// T: the number of temporal positions.
    pub temporal: usize,
    /// S: the number of features per temporal position.
    pub spatial: usize,
}
