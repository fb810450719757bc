//! Errors of the conversion from frames to clips.

use merv_plugin_api::PreprocessSpec;

/// Frames could not be converted to clips.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransformError {
    /// The name of a resize strategy is unknown.
    #[error(
        "unknown resize strategy \"{name}\"; expected `resize-naive`, `resize-crop` or `letterbox`"
    )]
    UnknownStrategy {
        /// The name found.
        name: String,
    },

    /// The list of frames is empty.
    #[error("the list of frames is empty; expected at least one frame")]
    NoFrames,

    /// The frame count of an encoder does not divide the number of frames read.
    #[error(
        "an encoder takes {num_frames} frames, which does not divide the {frames} frames read for \
         all encoders; every `num_frames` must divide the largest one"
    )]
    FramesDoNotDivide {
        /// Frames that the encoder takes.
        num_frames: usize,
        /// Frames that were read.
        frames: usize,
    },

    /// The number of bytes of a frame does not match its size.
    #[error(
        "frame {frame} is {width}×{height} with {bytes} bytes; expected at least one pixel, and \
         {width}·{height}·3 bytes"
    )]
    BadFrame {
        /// The index of the frame.
        frame: usize,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Number of bytes found.
        bytes: usize,
    },

    /// The preprocessing of an encoder is invalid.
    #[error(
        "the encoder's preprocessing is invalid: {reason}; found `image_size` {}, `short_side` {}, \
         `mean` {:?}, `std` {:?}",
        .spec.image_size, .spec.short_side, .spec.mean, .spec.std
    )]
    BadSpec {
        /// The requirement that is violated.
        reason: &'static str,
        /// The preprocessing of the encoder.
        spec: Box<PreprocessSpec>,
    },
}
