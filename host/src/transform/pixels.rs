//! The values of a clip: normalised floats, or bytes for encoders that normalise themselves.

use merv_plugin_api::{DType, EncoderInfo, PluginError, ResizeDomain, TensorView};

/// The form of a clip's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelKind {
    /// Normalised `f32`.
    F32,
    /// Resized bytes, before normalisation.
    U8,
}

impl PixelKind {
    /// Returns the form that an encoder gets: bytes if it takes them, which are a quarter of the size.
    pub fn of(info: &EncoderInfo) -> Self {
        match info.clip_dtypes.contains(&DType::U8)
            && info.preprocess.domain == ResizeDomain::PILLOW_U8
        {
            true => Self::U8,
            false => Self::F32,
        }
    }

    /// Returns the number of bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

/// The values of one or more clips.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Normalised values.
    F32(Vec<f32>),
    /// Resized bytes.
    U8(Vec<u8>),
}

/// The values of one frame, to be written.
pub(super) enum FrameMut<'a> {
    F32(&'a mut [f32]),
    U8(&'a mut [u8]),
}

impl Pixels {
    pub(super) fn zeros(kind: PixelKind, length: usize) -> Self {
        match kind {
            PixelKind::F32 => Self::F32(vec![0.0; length]),
            PixelKind::U8 => Self::U8(vec![0; length]),
        }
    }

    /// Returns the frames of `length` values each.
    pub(super) fn frames_mut(&mut self, length: usize) -> Vec<FrameMut<'_>> {
        match self {
            Self::F32(values) => values.chunks_exact_mut(length).map(FrameMut::F32).collect(),
            Self::U8(values) => values.chunks_exact_mut(length).map(FrameMut::U8).collect(),
        }
    }

    /// Copies frame `from` to frame `to`.
    pub(super) fn copy_frame(&mut self, from: usize, to: usize, length: usize) {
        let source = from * length..(from + 1) * length;
        match self {
            Self::F32(values) => values.copy_within(source, to * length),
            Self::U8(values) => values.copy_within(source, to * length),
        }
    }

    /// Borrows the values as a tensor.
    ///
    /// # Errors
    ///
    /// When `shape` does not have as many values.
    pub fn view<'a>(&'a self, shape: &'a [usize]) -> Result<TensorView<'a>, PluginError> {
        match self {
            Self::F32(values) => TensorView::new(values, shape),
            Self::U8(values) => TensorView::new(values, shape),
        }
    }

    /// Returns the values of several clips, one after the other.
    ///
    /// # Errors
    ///
    /// When they do not all have the form of the first.
    pub fn concat(all: &[&Self]) -> Result<Self, PluginError> {
        let mixed = || PluginError::invalid("clips of different forms in one batch");
        if let Some(Self::U8(_)) = all.first() {
            let parts = all.iter().map(|pixels| match pixels {
                Self::U8(values) => Ok(values.as_slice()),
                Self::F32(_) => Err(mixed()),
            });
            return Ok(Self::U8(parts.collect::<Result<Vec<_>, _>>()?.concat()));
        }
        let parts = all.iter().map(|pixels| match pixels {
            Self::F32(values) => Ok(values.as_slice()),
            Self::U8(_) => Err(mixed()),
        });
        Ok(Self::F32(parts.collect::<Result<Vec<_>, _>>()?.concat()))
    }
}
