//! Tensors of the API as tensors of libtorch, and back.

use crate::{failure::Result, placement::torch_device};
use merv_plugin_api::{DType, Device, DeviceKind, PluginError, Stream, TensorBuf, TensorView};
use tch::{Kind, Tensor};

/// The stream of a device on which this plugin computes: libtorch's default stream. All work is in its order.
pub const DEFAULT_STREAM: Stream = Stream(1);

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

/// Returns a tensor of `f32` on `device`: a copy of one in main memory, or the memory of one that is there already.
pub fn input(view: &TensorView<'_>, device: Device) -> Result<Tensor> {
    if view.device().is_main_memory() {
        let flat = Tensor::f_from_slice(view.f32s()?)?;
        return Ok(flat
            .f_reshape(sizes(view.shape()))?
            .f_to(torch_device(device))?);
    }
    if view.dtype() != DType::F32 || view.device() != device {
        return Err(PluginError::invalid(format!(
            "expected a tensor of f32 in main memory or on {device}, found {view:?}"
        ))
        .into());
    }
    // SAFETY: the view's elements are on the device. Their memory is reused in the order of the default stream, so after
    // everything that this call puts there.
    Ok(unsafe { over(view.as_ptr(), view.dtype(), view.device(), view.shape())? })
}

/// Makes a tensor over memory that it does not own.
///
/// # Safety
///
/// `data` must point to as many elements as `shape` has, on `device`, until the work on the tensor is done.
pub unsafe fn over(
    data: *const u8,
    dtype: DType,
    device: Device,
    shape: &[usize],
) -> Result<Tensor> {
    let sizes = sizes(shape);
    let mut strides = vec![1; sizes.len()];
    for axis in (1..sizes.len()).rev() {
        strides[axis - 1] = strides[axis] * sizes[axis];
    }
    // SAFETY: the caller's promise.
    let tensor =
        unsafe { Tensor::f_from_blob(data, &sizes, &strides, kind(dtype)?, torch_device(device)) };
    Ok(tensor?)
}

/// Returns libtorch's name of a dtype.
pub fn kind(dtype: DType) -> Result<Kind> {
    Ok(match dtype {
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::U8 => Kind::Uint8,
        other => return Err(PluginError::unsupported(format!("no tensors of {other}")).into()),
    })
}

/// Returns the device of a tensor.
fn device(tensor: &Tensor) -> Device {
    match tensor.device() {
        tch::Device::Cuda(ordinal) => {
            Device::new(DeviceKind::CUDA, u32::try_from(ordinal).unwrap_or(u32::MAX))
        }
        _ => Device::CPU,
    }
}

/// Keeps a tensor alive whose memory the host reads. Nothing uses the tensor itself before it is dropped.
struct Owner(#[expect(dead_code, reason = "it is held, not read")] Tensor);

// SAFETY: a shared reference to an owner gives access to nothing.
unsafe impl Sync for Owner {}

/// Gives a tensor to the host as `f32`, on its device, without copying it if it is contiguous `f32`.
pub fn given(tensor: &Tensor) -> Result<TensorBuf> {
    let tensor = tensor.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let stream = match device(&tensor) {
        Device::CPU => Stream::COMPLETE,
        _ => DEFAULT_STREAM,
    };
    owned(tensor, DType::F32, stream)
}

/// Gives a tensor to the host as `f32` in main memory.
pub fn given_in_main_memory(tensor: &Tensor) -> Result<TensorBuf> {
    given(&tensor.f_detach()?.f_to(tch::Device::Cpu)?)
}

/// Gives a contiguous tensor to the host. Its elements are complete when its device has finished the stream.
pub fn owned(tensor: Tensor, dtype: DType, stream: Stream) -> Result<TensorBuf> {
    let (data, shape, device) = (
        tensor.data_ptr().cast_const().cast(),
        shape(&tensor),
        device(&tensor),
    );
    let owner = Owner(tensor);
    let release = move |_last_use: Stream| drop(owner);
    // SAFETY: the tensor is contiguous and of this dtype, and nothing writes to the result of a computation. The release
    // gives the memory back to libtorch, which reuses it in the order of the default stream.
    Ok(unsafe { TensorBuf::from_raw(data, dtype, device, &shape, stream, release) }?)
}
