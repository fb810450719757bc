use crate::code::open_code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

open_code! {
    /// The filter that resamples pixels.
    Interpolation, "interpolation" {
        /// Linear in both directions.
        BILINEAR = 1, "bilinear";
        /// Cubic convolution (Pillow: a = −0.5).
        BICUBIC = 2, "bicubic";
    }
}

open_code! {
    /// The representation in which frames are resized.
    ResizeDomain, "resize domain" {
        /// On `u8`, as Pillow does: antialiased when shrinking, normalised afterwards.
        PILLOW_U8 = 1, "pillow-u8";
        /// On normalised `f32`, as `torch.nn.functional.interpolate(align_corners=False)` does, without
        /// antialiasing: the short side becomes [`PreprocessSpec::short_side`], the long side is rounded down,
        /// and the centre is cropped. The registry's resize strategy does not apply, because LanguageBind
        /// supports only this one.
        TORCH_F32 = 2, "torch-f32";
    }
}

/// The steps from `[frames, height, width, 3]` RGB `u8` to `[frames, 3, image_size, image_size]` `f32`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PreprocessSpec {
    /// Height and width of the finished clip, in pixels.
    pub image_size: u32,
    /// Length of the short side before the centre crop of the `resize-crop` and `letterbox` strategies, in
    /// pixels.
    pub short_side: u32,
    /// The resampling filter.
    pub interpolation: Interpolation,
    /// Whether pixels are resized before or after they are normalised.
    pub domain: ResizeDomain,
    /// Subtracted from each channel (red, green, blue) after division by 255.
    pub mean: [f32; 3],
    /// The divisor of each channel after the subtraction.
    pub std: [f32; 3],
    /// Further steps, for hosts that know them.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

impl PreprocessSpec {
    /// Bilinear resizing of `u8` to `image_size`, as Pillow does it. Pixels from 0 to 1 are not normalised further.
    pub fn new(image_size: u32) -> Self {
        Self {
            image_size,
            short_side: image_size,
            interpolation: Interpolation::BILINEAR,
            domain: ResizeDomain::PILLOW_U8,
            mean: [0.0; 3],
            std: [1.0; 3],
            extra: BTreeMap::new(),
        }
    }

    /// Sets the length of the short side before the centre crop, in pixels.
    #[must_use]
    pub fn short_side(mut self, pixels: u32) -> Self {
        self.short_side = pixels;
        self
    }

    /// Sets the resampling filter.
    #[must_use]
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }

    /// Sets the representation in which frames are resized.
    #[must_use]
    pub fn domain(mut self, domain: ResizeDomain) -> Self {
        self.domain = domain;
        self
    }

    /// Sets what is subtracted from each channel, and what it is then divided by.
    #[must_use]
    pub fn normalise(mut self, mean: [f32; 3], std: [f32; 3]) -> Self {
        (self.mean, self.std) = (mean, std);
        self
    }
}
