//! The types of stored tensors' elements.

use std::fmt;

/// The type of a stored tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredDtype {
    /// Double-precision floating point.
    F64,
    /// Single-precision floating point.
    F32,
    /// Half-precision floating point.
    F16,
    /// Brain floating point.
    BF16,
    /// Signed 64-bit integers.
    I64,
    /// Signed 32-bit integers.
    I32,
    /// Signed 16-bit integers.
    I16,
    /// Signed bytes.
    I8,
    /// Unsigned bytes.
    U8,
    /// Booleans of one byte, 0 or 1.
    Bool,
    /// Blocks of quantised numbers along the last dimension.
    Quantized(GgmlType),
}

/// The format of a block of numbers in ggml (`block_q4_0` and so on in llama.cpp's `ggml-common.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub enum GgmlType {
    /// 32 numbers of 4 bits and a scale.
    Q4_0,
    /// 32 numbers of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 numbers of 5 bits and a scale.
    Q5_0,
    /// 32 numbers of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 numbers of 8 bits and a scale.
    Q8_0,
    /// 256 numbers of 2 bits with 16 scales and minima.
    Q2K,
    /// 256 numbers of 3 bits with 16 scales.
    Q3K,
    /// 256 numbers of 4 bits with 8 scales and minima.
    Q4K,
    /// 256 numbers of 5 bits with 8 scales and minima.
    Q5K,
    /// 256 numbers of 6 bits with 16 scales.
    Q6K,
}

impl GgmlType {
    /// Returns the number of elements in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Returns the number of bytes in a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

impl StoredDtype {
    /// Returns the number of elements in a block: 1 unless the type is quantised.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Quantized(kind) => kind.block_len(),
            _ => 1,
        }
    }

    /// Returns the number of bytes in a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Quantized(kind) => kind.block_bytes(),
        }
    }

    /// Returns whether the type is floating-point, quantised or not.
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::Quantized(_)
        )
    }

    /// Returns the number of bytes of a tensor of `shape`, or `None` if its last dimension is not a multiple
    /// of the block length or the number overflows.
    pub fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        let last = shape.last().copied().unwrap_or(1);
        if !last.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements_of(shape)? / self.block_len()).checked_mul(self.block_bytes())
    }
}

/// Returns the number of elements of a tensor of `shape`, or `None` if it overflows.
pub(crate) fn elements_of(shape: &[usize]) -> Option<usize> {
    // A dimension of 0 must not hide an overflow of the others.
    let checked = |product: usize, &size: &usize| product.checked_mul(size.max(1));
    shape.iter().try_fold(1, checked)?;
    Some(shape.iter().product())
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        };
        f.write_str(name)
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantized(kind) => kind.fmt(f),
            Self::Bool => f.write_str("BOOL"),
            other => write!(f, "{other:?}"),
        }
    }
}
