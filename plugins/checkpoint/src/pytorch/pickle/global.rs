//! The Python names that pickles of `torch.save` may refer to.

use super::super::error::ReadError;
use crate::StoredDtype;

/// A Python type or function that the machine supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2` and its first version.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`, with or without state.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a tensor with attributes.
    RebuildFromType,
    Storage(StoredDtype),
    Size,
    Device,
    /// `torch.float32` and so on: a value, not a function.
    Dtype,
    /// `torch.Tensor` and `torch.nn.Parameter`.
    TensorType,
    NumpyScalar,
    NumpyDtype,
    /// `_codecs.encode`: how protocol 2 writes bytes.
    Encode,
}

impl Global {
    /// Returns its name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "`collections.OrderedDict`",
            Self::RebuildTensor => "`torch._utils._rebuild_tensor_v2`",
            Self::RebuildParameter => "`torch._utils._rebuild_parameter`",
            Self::RebuildFromType => "`torch._tensor._rebuild_from_type_v2`",
            Self::Storage(_) => "a storage class",
            Self::Size => "`torch.Size`",
            Self::Device => "`torch.device`",
            Self::Dtype => "a data type",
            Self::TensorType => "`torch.Tensor`",
            Self::NumpyScalar => "numpy's `scalar`",
            Self::NumpyDtype => "`numpy.dtype`",
            Self::Encode => "`_codecs.encode`",
        }
    }

    /// Returns what `module.name` is, or refuses it.
    pub fn find(module: &str, name: &str) -> Result<Self, ReadError> {
        let known = match module {
            "collections" => (name == "OrderedDict").then_some(Self::OrderedDict),
            "torch._utils" => match name {
                "_rebuild_tensor_v2" | "_rebuild_tensor" => Some(Self::RebuildTensor),
                "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
                    Some(Self::RebuildParameter)
                }
                _ => None,
            },
            "torch._tensor" => (name == "_rebuild_from_type_v2").then_some(Self::RebuildFromType),
            "torch.nn.parameter" => (name == "Parameter").then_some(Self::TensorType),
            "torch" => torch(name),
            "numpy.core.multiarray" | "numpy._core.multiarray" => {
                (name == "scalar").then_some(Self::NumpyScalar)
            }
            "numpy" => (name == "dtype").then_some(Self::NumpyDtype),
            "_codecs" => (name == "encode").then_some(Self::Encode),
            _ => None,
        };
        known.ok_or_else(|| {
            let shown: String = format!("{module}.{name}").chars().take(200).collect();
            ReadError::Unsupported(format!(
                "it refers to `{shown}`, which tensors and plain values do not need; nothing was executed. \
                 Save only the weights, as `torch.save(model.state_dict(), …)` does"
            ))
        })
    }
}

fn torch(name: &str) -> Option<Global> {
    if let Some(kind) = name.strip_suffix("Storage") {
        let dtype = match kind {
            "Double" => StoredDtype::F64,
            "Float" => StoredDtype::F32,
            "Half" => StoredDtype::F16,
            "BFloat16" => StoredDtype::BF16,
            "Long" => StoredDtype::I64,
            "Int" => StoredDtype::I32,
            "Short" => StoredDtype::I16,
            "Char" => StoredDtype::I8,
            "Byte" => StoredDtype::U8,
            "Bool" => StoredDtype::Bool,
            _ => return None,
        };
        return Some(Global::Storage(dtype));
    }
    Some(match name {
        "Size" => Global::Size,
        "device" => Global::Device,
        "Tensor" => Global::TensorType,
        "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int16" | "int8"
        | "uint8" | "bool" => Global::Dtype,
        _ => return None,
    })
}
