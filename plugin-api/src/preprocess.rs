//! Preprocessing: how the host turns decoded frames into the clip that it passes to
//! [`crate::Encoder::encode`].

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

/// The representation in which frames are resized.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResizeDomain {
    /// On `u8`, as Pillow does: antialiased when shrinking, normalised afterwards.
    PillowU8,
    /// On normalised `f32`, as `torch.nn.functional.interpolate(align_corners=False)` does, without
    /// antialiasing: the short side becomes [`PreprocessSpec::short_side`], the long side is rounded down,
    /// and the centre is cropped. The registry's resize strategy does not apply, because LanguageBind
    /// supports only this one.
    TorchF32,
}

/// The steps from `[frames, height, width, 3]` RGB `u8` to `[frames, 3, image_size, image_size]` `f32`.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq)]
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
}
