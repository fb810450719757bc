//! What matrix products are computed in.

use merv_plugin_api::DType;

/// The numbers that a layer multiplies; what it takes, gives and sums is `f32` either way, and so are
/// weights that are trained, their gradients and the optimizer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Both operands rounded to `bf16`, products summed in `f32`: faster on a CPU that has AVX-512 BF16,
    /// slower on one that has not. Attention, low-rank adapters, and forward products with up to
    /// [`FEW_ROWS`](crate::kernels::linear::FEW_ROWS) rows (decoding) stay in `f32`.
    Bf16,
}

impl Precision {
    /// Its name at the plugin boundary.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// That of a model whose description says that it computes in `dtype`.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::BF16 => Self::Bf16,
            _ => Self::F32,
        }
    }
}
