//! Between candle's tensors and plain slices.

use crate::Result;
use candle_core::{CpuStorage, Device, Shape, Storage, Tensor};
use merv_plugin_api::{PluginError, TensorBuf, TensorView};

/// Calls `body` with the elements of a contiguous `f32` tensor in main memory.
///
/// # Errors
///
/// When the tensor is of another dtype, on another device, or not contiguous; and what `body` returns.
pub fn with_slice<R>(tensor: &Tensor, body: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => body(&data[start..end]),
        _ => Err(PluginError::invalid(format!(
            "a kernel expected a contiguous f32 tensor on the CPU, found {} {:?}{}",
            tensor.dtype().as_str(),
            tensor.shape(),
            if tensor.device().is_cpu() {
                ""
            } else {
                " on another device"
            }
        ))),
    }
}

/// A tensor of `shape` that owns `data`, without a copy.
///
/// # Errors
///
/// When `shape` does not have as many elements as `data`.
pub fn from_vec(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// The size of the last dimension, and how many such rows there are.
///
/// # Errors
///
/// When the tensor has no dimension.
pub fn rows(tensor: &Tensor) -> Result<(usize, usize)> {
    let width = tensor.dims().last().copied().ok_or_else(|| {
        PluginError::invalid("a kernel expected a tensor with at least one dimension")
    })?;
    Ok((tensor.elem_count().checked_div(width).unwrap_or(0), width))
}

/// Copies a lent tensor into candle's own memory.
///
/// # Errors
///
/// When it is not `f32` in main memory.
pub fn import(view: &TensorView<'_>) -> Result<Tensor> {
    from_vec(view.f32s()?.to_vec(), view.shape())
}

/// Hands a tensor over to the host.
///
/// # Errors
///
/// When it is not `f32`.
pub fn export(tensor: &Tensor) -> Result<TensorBuf> {
    TensorBuf::from_vec(tensor.flatten_all()?.to_vec1::<f32>()?, tensor.dims())
}
