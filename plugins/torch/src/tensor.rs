//! Tensors of the API as tensors of libtorch, and back.

use crate::failure::Result;
use merv_plugin_api::{DType, Device, PluginError, Stream, TensorBuf, TensorView};
use tch::{Kind, Tensor};

/// A size as libtorch counts it.
pub fn size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A shape as libtorch has it.
pub fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().copied().map(size).collect()
}

/// A shape of libtorch as the API has it.
pub fn shape(tensor: &Tensor) -> Vec<usize> {
    let sizes = tensor.size().into_iter();
    sizes.map(|n| usize::try_from(n).unwrap_or(0)).collect()
}

/// Copies a tensor of `f32`.
pub fn copied(view: &TensorView<'_>) -> Result<Tensor> {
    let flat = Tensor::f_from_slice(view.f32s()?)?;
    Ok(flat.f_reshape(sizes(view.shape()))?)
}

/// Copies a tensor of `f32` that must have this shape.
pub fn copied_as(what: &str, view: &TensorView<'_>, expected: &[usize]) -> Result<Tensor> {
    if view.shape() != expected {
        let found = view.shape();
        let message = format!("expected {what} of shape {expected:?}, found {found:?}");
        return Err(PluginError::invalid(message).into());
    }
    copied(view)
}

/// Keeps a tensor alive whose memory the host reads. Nothing uses the tensor itself before it is dropped.
struct Owner(#[expect(dead_code, reason = "it is held, not read")] Tensor);

// SAFETY: a shared reference to an owner gives access to nothing.
unsafe impl Sync for Owner {}

/// Gives a tensor of `f32` to the host, without copying it if it is contiguous.
pub fn given(tensor: &Tensor) -> Result<TensorBuf> {
    let tensor = tensor.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let (data, shape) = (tensor.data_ptr().cast_const().cast(), shape(&tensor));
    let owner = Owner(tensor);
    let release = move |_| drop(owner);
    // SAFETY: the tensor is contiguous `f32` in main memory, and nothing writes to the result of a computation.
    let buffer = unsafe {
        TensorBuf::from_raw(
            data,
            DType::F32,
            Device::CPU,
            &shape,
            Stream::COMPLETE,
            release,
        )
    };
    Ok(buffer?)
}
