//! The precision of matrix products.

use merv_plugin_api::DType;

/// The precision of the numbers that a layer multiplies. Its inputs, outputs and sums are always `f32`, and
/// so are trained weights, their gradients and the optimizer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Both operands are rounded to `bf16`, and products are summed in `f32`. This is faster on a CPU with
    /// AVX-512 BF16 and slower on one without. Attention, low-rank adapters, and forward products of up to
    /// [`FEW_ROWS`](crate::kernels::linear::FEW_ROWS) rows (decoding) stay in `f32`.
    Bf16,
}

impl Precision {
    /// Returns the dtype that stands for it at the plugin boundary.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Returns the precision of a model whose description states `dtype`.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::BF16 => Self::Bf16,
            _ => Self::F32,
        }
    }
}
