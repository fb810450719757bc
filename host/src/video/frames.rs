//! Decoded pictures.

use std::sync::Arc;

/// One decoded picture.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbFrame {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, red first, without padding.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for RgbFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbFrame({}×{})", self.width, self.height)
    }
}

/// The chosen frames of a file.
#[derive(Debug, Clone)]
pub struct Frames {
    /// As many as were asked for. A frame chosen twice is there twice, and both share their pixels.
    pub frames: Vec<Arc<RgbFrame>>,
    /// The number of each frame in the file, counted from 0 in the order of presentation.
    pub indices: Vec<usize>,
    /// How many frames the file has.
    pub total_frames: usize,
    /// Average frames per second; 0 for a still image and for a folder without a stated rate.
    pub fps: f64,
}
