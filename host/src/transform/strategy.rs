//! What becomes of frames that are not square.

use super::error::TransformError;
use std::{fmt, str::FromStr};

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
