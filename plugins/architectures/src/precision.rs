//! The precision of matrix products.

use merv_plugin_api::DType;

/// The precision of the numbers that a layer multiplies. Products are always summed in `f32`, and trained weights, their
/// gradients and the optimizer's state are `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Both operands are rounded to `bf16`. What else is rounded depends on the backend.
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
