//! Conversions between candle's tensors and slices.

use crate::Result;
use candle_core::{CpuStorage, Device, Shape, Storage, Tensor};
use merv_plugin_api::{PluginError, TensorBuf, TensorView};

/// Calls `body` with the elements of a contiguous `f32` tensor in main memory.
///
/// # Errors
///
/// When the tensor has another dtype, is on another device, or is not contiguous; and the error of `body`.
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

/// Creates a tensor of `shape` from `data` without a copy.
///
/// # Errors
///
/// When `shape` does not have as many elements as `data`.
pub fn from_vec(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// Returns the number of rows along the last dimension, and their width.
///
/// # Errors
///
/// When the tensor has no dimensions.
pub fn rows(tensor: &Tensor) -> Result<(usize, usize)> {
    let width = tensor.dims().last().copied().ok_or_else(|| {
        PluginError::invalid("a kernel expected a tensor with at least one dimension")
    })?;
    Ok((tensor.elem_count().checked_div(width).unwrap_or(0), width))
}

/// Copies a borrowed tensor into a candle tensor.
///
/// # Errors
///
/// When it is not `f32` in main memory.
pub fn import(view: &TensorView<'_>) -> Result<Tensor> {
    from_vec(view.f32s()?.to_vec(), view.shape())
}

/// Copies a candle tensor into a tensor that the host can take.
///
/// # Errors
///
/// When it is not `f32`.
pub fn export(tensor: &Tensor) -> Result<TensorBuf> {
    TensorBuf::from_vec(tensor.flatten_all()?.to_vec1::<f32>()?, tensor.dims())
}
