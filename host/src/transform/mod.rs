//! From decoded frames to the clips that the encoders take.
//!
//! Each encoder states in its [`PreprocessSpec`] how it wants its frames; the registry's
//! [`ResizeStrategy`] says what becomes of frames that are not square. What two encoders share is
//! computed once ([`clips`]).
//!
//! The numbers are those of MERV's own transforms: Pillow's resize byte for byte (`resize`),
//! torch's within rounding (`torch_resize`), torchvision's normalisation (`normalize`).

mod clip;
mod geometry;
mod normalize;
mod resize;
#[cfg(test)]
mod tests;
mod torch_resize;

use std::fmt;
use std::str::FromStr;

pub use clip::{Clip, ClipRequest, clips};
use merv_plugin_api::PreprocessSpec;

/// What becomes of frames that are not square. Encoders that resize in torch's way know only that
/// one and ignore this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResizeStrategy {
    /// Squeezed to a square.
    #[default]
    ResizeNaive,
    /// The short side to the encoder's length, then the centre cut out.
    ResizeCrop,
    /// Bars in the colour of the mean first, then as [`Self::ResizeCrop`].
    Letterbox,
}

impl ResizeStrategy {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::ResizeNaive, Self::ResizeCrop, Self::Letterbox];

    /// The name in registries and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResizeNaive => "resize-naive",
            Self::ResizeCrop => "resize-crop",
            Self::Letterbox => "letterbox",
        }
    }
}

impl fmt::Display for ResizeStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ResizeStrategy {
    type Err = TransformError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == name)
            .ok_or_else(|| TransformError::UnknownStrategy {
                name: name.to_owned(),
            })
    }
}

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
