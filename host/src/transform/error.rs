//! Why frames did not become clips.

use merv_plugin_api::PreprocessSpec;

/// Why frames did not become clips.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransformError {
    /// A resize strategy of that name does not exist.
    #[error(
        "unknown resize strategy \"{name}\"; expected `resize-naive`, `resize-crop` or `letterbox`"
    )]
    UnknownStrategy {
        /// What was written.
        name: String,
    },

    /// There is nothing to make a clip of.
    #[error("there are no frames to make a clip of; expected at least one")]
    NoFrames,

    /// An encoder's frame count does not divide the number of frames read.
    #[error(
        "an encoder takes {num_frames} frames, which does not divide the {frames} frames read for \
         all encoders; every `num_frames` must divide the largest one"
    )]
    FramesDoNotDivide {
        /// What the encoder takes.
        num_frames: usize,
        /// How many there are.
        frames: usize,
    },

    /// A frame whose bytes do not fit its size.
    #[error(
        "frame {frame} is {width}×{height} with {bytes} bytes; expected at least one pixel, and \
         {width}·{height}·3 bytes"
    )]
    BadFrame {
        /// Which one.
        frame: usize,
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes it has.
        bytes: usize,
    },

    /// An encoder asks for something impossible.
    #[error(
        "the encoder's preprocessing cannot be followed: {reason}; found `image_size` {}, `short_side` {}, \
         `mean` {:?}, `std` {:?}",
        .spec.image_size, .spec.short_side, .spec.mean, .spec.std
    )]
    BadSpec {
        /// What is wrong.
        reason: &'static str,
        /// What the encoder asks for.
        spec: PreprocessSpec,
    },
}
