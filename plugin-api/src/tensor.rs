//! Tensors as they cross the boundary: a pointer, a dtype, a device and a shape.

use crate::PluginError;
use abi_stable::{
    StableAbi,
    std_types::{RSlice, RVec},
};
use std::{ffi::c_void, fmt, marker::PhantomData};

/// The type of a tensor's elements.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// Unsigned bytes.
    U8,
    /// Signed 64-bit integers.
    I64,
    /// IEEE half precision.
    F16,
    /// Brain floating point.
    BF16,
    /// IEEE single precision.
    F32,
}

impl DType {
    /// Returns the number of bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    /// Returns the name used in registries, such as `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of device.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Main memory.
    Cpu,
    /// Memory of the CUDA device's primary context.
    Cuda,
}

/// A device: its kind and its number.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The kind.
    pub kind: DeviceKind,
    /// The number among the devices of this kind; 0 for the CPU.
    pub ordinal: u32,
}

impl Device {
    /// The CPU.
    pub const CPU: Self = Self {
        kind: DeviceKind::Cpu,
        ordinal: 0,
    };
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DeviceKind::Cpu => f.write_str("cpu"),
            DeviceKind::Cuda => write!(f, "cuda:{}", self.ordinal),
        }
    }
}

/// A Rust type that corresponds to a [`DType`].
///
/// # Safety
///
/// `DTYPE` must describe the type exactly, and every bit pattern must be a valid value of the type.
pub unsafe trait TensorElement: Copy + Send + Sync + 'static {
    /// The matching dtype.
    const DTYPE: DType;
}

// SAFETY: the type and the dtype have the same size and meaning, and all bit patterns are valid.
unsafe impl TensorElement for u8 {
    const DTYPE: DType = DType::U8;
}
// SAFETY: as above.
unsafe impl TensorElement for i64 {
    const DTYPE: DType = DType::I64;
}
// SAFETY: as above.
unsafe impl TensorElement for half::f16 {
    const DTYPE: DType = DType::F16;
}
// SAFETY: as above.
unsafe impl TensorElement for half::bf16 {
    const DTYPE: DType = DType::BF16;
}
// SAFETY: as above.
unsafe impl TensorElement for f32 {
    const DTYPE: DType = DType::F32;
}

/// Returns the number of elements of `shape`.
///
/// # Errors
///
/// When the product overflows.
fn elements(shape: &[usize]) -> Result<usize, PluginError> {
    shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| {
            PluginError::invalid(format!("a tensor of shape {shape:?} has too many elements"))
        })
}

/// A C-contiguous tensor that is borrowed for one call. The caller keeps it alive and unchanged until
/// the call returns. Passing it does not copy the elements.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TensorView<'a> {
    data: *const u8,
    len: usize,
    dtype: DType,
    device: Device,
    shape: RSlice<'a, usize>,
    _borrow: PhantomData<&'a u8>,
}

// SAFETY: a view is a shared borrow of numbers.
unsafe impl Send for TensorView<'_> {}
// SAFETY: as above.
unsafe impl Sync for TensorView<'_> {}

impl<'a> TensorView<'a> {
    /// Borrows `data` as a tensor of `shape` in main memory.
    ///
    /// # Errors
    ///
    /// When `shape` does not have as many elements as `data`.
    pub fn new<T: TensorElement>(data: &'a [T], shape: &'a [usize]) -> Result<Self, PluginError> {
        let expected = elements(shape)?;
        if expected != data.len() {
            return Err(PluginError::invalid(format!(
                "expected {expected} elements for a tensor of shape {shape:?}, found {}",
                data.len()
            )));
        }
        Ok(Self {
            data: data.as_ptr().cast(),
            len: data.len(),
            dtype: T::DTYPE,
            device: Device::CPU,
            shape: shape.into(),
            _borrow: PhantomData,
        })
    }

    /// Returns the dtype of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the device that the elements are on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the shape.
    pub fn shape(&self) -> &'a [usize] {
        self.shape.as_slice()
    }

    /// Returns the shape as exactly `N` dimensions.
    ///
    /// # Errors
    ///
    /// When the tensor has a different number of dimensions.
    pub fn dims<const N: usize>(&self) -> Result<[usize; N], PluginError> {
        self.shape().try_into().map_err(|_| {
            PluginError::invalid(format!(
                "expected a tensor of {N} dimensions, found shape {:?}",
                self.shape()
            ))
        })
    }

    /// Returns the elements, in main memory, as `T`.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device or has another dtype.
    pub fn elements<T: TensorElement>(&self) -> Result<&'a [T], PluginError> {
        if self.device.kind != DeviceKind::Cpu {
            return Err(PluginError::unsupported(format!(
                "expected a tensor in main memory, found one on {}",
                self.device
            )));
        }
        if self.dtype != T::DTYPE {
            return Err(PluginError::invalid(format!(
                "expected a tensor of {}, found {}",
                T::DTYPE,
                self.dtype
            )));
        }
        if self.len == 0 {
            return Ok(&[]);
        }
        // SAFETY: pointer and length come either from a slice of this dtype that lives for 'a (`new`)
        // or from a buffer that is borrowed for 'a (`TensorBuf::view`).
        Ok(unsafe { std::slice::from_raw_parts(self.data.cast::<T>(), self.len) })
    }

    /// Returns the elements as `f32`. The same as [`Self::elements`] for the usual type.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device or has another dtype.
    pub fn f32s(&self) -> Result<&'a [f32], PluginError> {
        self.elements()
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TensorView({} {:?} on {})",
            self.dtype,
            self.shape(),
            self.device
        )
    }
}

/// An owned C-contiguous tensor. Its producer allocates it, and the producer's own code frees it when the
/// receiver drops it. A CUDA pointer belongs to the device's primary context; the producer must
/// synchronise before it returns the tensor.
#[repr(C)]
#[derive(StableAbi)]
pub struct TensorBuf {
    data: *const u8,
    len: usize,
    dtype: DType,
    device: Device,
    shape: RVec<usize>,
    owner: *mut c_void,
    release: extern "C" fn(*mut c_void),
}

// SAFETY: the buffer is owned and never written to, and `from_vec` accepts only `Send + Sync` elements.
unsafe impl Send for TensorBuf {}
// SAFETY: as above.
unsafe impl Sync for TensorBuf {}

extern "C" fn release_vec<T>(owner: *mut c_void) {
    // SAFETY: `from_vec` made `owner` with `Box::into_raw` from this type, and `Drop` runs once.
    drop(unsafe { Box::from_raw(owner.cast::<Vec<T>>()) });
}

impl TensorBuf {
    /// Makes a tensor of `shape` that owns `data`, without copying it.
    ///
    /// # Errors
    ///
    /// When `shape` does not have as many elements as `data`.
    pub fn from_vec<T: TensorElement>(data: Vec<T>, shape: &[usize]) -> Result<Self, PluginError> {
        TensorView::new(&data, shape)?;
        let owner = Box::new(data);
        Ok(Self {
            data: owner.as_ptr().cast(),
            len: owner.len(),
            dtype: T::DTYPE,
            device: Device::CPU,
            shape: shape.to_vec().into(),
            owner: Box::into_raw(owner).cast(),
            release: release_vec::<T>,
        })
    }

    /// Borrows the tensor.
    pub fn view(&self) -> TensorView<'_> {
        TensorView {
            data: self.data,
            len: self.len,
            dtype: self.dtype,
            device: self.device,
            shape: self.shape.as_rslice(),
            _borrow: PhantomData,
        }
    }
}

impl Drop for TensorBuf {
    fn drop(&mut self) {
        (self.release)(self.owner);
    }
}

impl fmt::Debug for TensorBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TensorBuf({} {:?} on {})",
            self.dtype, self.shape, self.device
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_does_not_copy_its_elements() {
        let data = vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let address = data.as_ptr();
        let buffer = TensorBuf::from_vec(data, &[2, 3]).unwrap();
        let view = buffer.view();
        assert_eq!(view.f32s().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(view.f32s().unwrap().as_ptr(), address);
        assert_eq!(view.dims::<2>().unwrap(), [2, 3]);
    }

    #[test]
    fn wrong_use_is_an_error() {
        assert!(TensorBuf::from_vec(vec![0u8; 5], &[2, 3]).is_err());
        assert!(TensorBuf::from_vec(vec![0u8; 0], &[usize::MAX, 16]).is_err());
        // Products that would wrap around to 0 and 6.
        let half = 1 << (usize::BITS / 2);
        let wrapping = (1 << (usize::BITS - 1)) + 3;
        for (length, shape) in [(0, [half, half]), (6, [wrapping, 2])] {
            let data = vec![0u8; length];
            let error = TensorView::new(&data, &shape).unwrap_err();
            assert!(error.message.contains("too many elements"), "{error:?}");
            assert!(TensorBuf::from_vec(data, &shape).is_err());
        }
        let bytes = TensorBuf::from_vec(vec![0u8; 6], &[2, 3]).unwrap();
        assert!(bytes.view().f32s().is_err());
        assert!(bytes.view().dims::<3>().is_err());
    }

    // Reads the process's resident pages, which only Linux reports in this file.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_dropped_buffer_frees_its_memory() {
        let pages = || -> usize {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse().unwrap()
        };
        let before = pages();
        for _ in 0..64 {
            drop(TensorBuf::from_vec(vec![1.0f32; 1 << 20], &[1 << 20]).unwrap());
        }
        // Each buffer has 4 MiB, about a thousand pages.
        let grown = pages().saturating_sub(before);
        assert!(grown < 16_000, "{grown} more pages are in use");
    }
}
