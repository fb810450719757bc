//! Elements of a weight, in the dtype of the file.

use super::quantized::dequantize;
use half::{bf16, f16};
use merv_checkpoint::GgmlType;
use std::ops::Range;

/// Elements of a mapped tensor, in the dtype of the file.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Brain floating point.
    BF16(&'a [bf16]),
    /// Blocks of quantised numbers, with their type.
    Quantized(GgmlType, &'a [u8]),
}

impl Elements<'_> {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F16(data) => data.len(),
            Self::BF16(data) => data.len(),
            Self::Quantized(kind, blocks) => blocks.len() / kind.block_bytes() * kind.block_len(),
        }
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the elements of `range`. For quantised elements it must consist of whole blocks, as the rows
    /// of a matrix do.
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(data) => Elements::F32(&data[range]),
            Self::F16(data) => Elements::F16(&data[range]),
            Self::BF16(data) => Elements::BF16(&data[range]),
            Self::Quantized(kind, blocks) => {
                let byte = |element: usize| element / kind.block_len() * kind.block_bytes();
                Elements::Quantized(*kind, &blocks[byte(range.start)..byte(range.end)])
            }
        }
    }

    /// Returns the elements as `f32`. Elements of another dtype are converted into `scratch`.
    pub fn to_f32<'s>(&'s self, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        use half::slice::HalfFloatSliceExt;
        match self {
            Self::F32(data) => data,
            Self::F16(data) => {
                scratch.resize(data.len(), 0.0);
                data.convert_to_f32_slice(scratch);
                scratch
            }
            Self::BF16(data) => {
                scratch.resize(data.len(), 0.0);
                data.convert_to_f32_slice(scratch);
                scratch
            }
            Self::Quantized(kind, blocks) => {
                scratch.resize(self.len(), 0.0);
                dequantize(*kind, blocks, scratch);
                scratch
            }
        }
    }
}
