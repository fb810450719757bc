//! Decoded frames.

use std::sync::Arc;

/// A decoded frame.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbFrame {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[height, width, 3]` in RGB order, without padding.
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
    /// The frames, as many as requested. A frame that is chosen twice occurs twice, with shared pixels.
    pub frames: Vec<Arc<RgbFrame>>,
    /// The index of each frame in the file, counted from 0 in presentation order.
    pub indices: Vec<usize>,
    /// The time at which each frame is shown, in seconds from the first frame of the file. NaN if the file does not tell.
    pub seconds: Vec<f64>,
    /// The number of frames in the file.
    pub total_frames: usize,
    /// Average frames per second. 0 for still images and for folders without a frame rate.
    pub fps: f64,
}
