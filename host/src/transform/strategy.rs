//! How frames that are not square become square.

use super::error::TransformError;
use std::{fmt, str::FromStr};

/// How frames that are not square become square. Encoders that use torch's resize have their own way and
/// ignore this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResizeStrategy {
    /// Resizes to a square without keeping the aspect ratio.
    #[default]
    ResizeNaive,
    /// Scales the short side to the encoder's size, then crops the centre.
    ResizeCrop,
    /// Pads with bars in the mean colour, then continues like [`Self::ResizeCrop`].
    Letterbox,
}

impl ResizeStrategy {
    /// All strategies.
    pub const ALL: [Self; 3] = [Self::ResizeNaive, Self::ResizeCrop, Self::Letterbox];

    /// Returns the name used in registries and on the command line.
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
