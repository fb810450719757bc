//! What an encoder wants its frames to look like: the recipe the host follows to turn decoded
//! frames into the clip it hands to [`crate::Encoder::encode`].

use abi_stable::StableAbi;

/// The filter that resamples pixels.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// Linear in both directions.
    Bilinear,
    /// Cubic convolution (Pillow: a = −0.5).
    Bicubic,
}

/// In which numbers the frames are resized.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResizeDomain {
    /// As Pillow does: on `u8`, antialiased when shrinking; normalised afterwards.
    PillowU8,
    /// As `torch.nn.functional.interpolate(align_corners=False)` does: on normalised `f32`, not
    /// antialiased; the short side to [`PreprocessSpec::short_side`], the long side floored, then a
    /// centre crop. The registry's resize strategy does not apply (LanguageBind knows only this way).
    TorchF32,
}

/// The recipe from `[frames, height, width, 3]` RGB `u8` to `[frames, 3, image_size, image_size]` `f32`.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq)]
pub struct PreprocessSpec {
    /// Height and width of the finished clip, in pixels.
    pub image_size: u32,
    /// Length of the short side, in pixels, before the centre crop of the `resize-crop` and
    /// `letterbox` strategies.
    pub short_side: u32,
    /// The resampling filter.
    pub interpolation: Interpolation,
    /// Whether pixels are resized before or after they are normalised.
    pub domain: ResizeDomain,
    /// Subtracted from each channel (red, green, blue) after the division by 255.
    pub mean: [f32; 3],
    /// Then each channel is divided by this.
    pub std: [f32; 3],
}
