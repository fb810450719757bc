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
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    /// The name used in registries: `f32`.
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

/// A device: its kind, and which one of that kind.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The kind.
    pub kind: DeviceKind,
    /// The number among its kind; 0 for the CPU.
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

/// A Rust type that stands for a [`DType`].
///
/// # Safety
///
/// `DTYPE` must describe the type exactly, and every bit pattern must be a valid value of it.
pub unsafe trait TensorElement: Copy + Send + Sync + 'static {
    /// The matching dtype.
    const DTYPE: DType;
}

// SAFETY: each pairs a type with the dtype of the same size and meaning; all bit patterns are valid.
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

/// The number of elements of `shape`.
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

/// A tensor lent for the length of one call: C-contiguous, borrowed from the caller, who keeps it
/// alive and unchanged until the call returns. Crossing costs no copy.
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

// SAFETY: a view is a shared borrow of plain numbers.
unsafe impl Send for TensorView<'_> {}
// SAFETY: as above.
unsafe impl Sync for TensorView<'_> {}

impl<'a> TensorView<'a> {
    /// Lends `data` as a tensor of `shape` in main memory.
    ///
    /// # Errors
    ///
    /// When `shape` does not have as many elements as `data`.
    pub fn new<T: TensorElement>(data: &'a [T], shape: &'a [usize]) -> Result<Self, PluginError> {
        if elements(shape)? != data.len() {
            return Err(PluginError::invalid(format!(
                "a tensor of shape {shape:?} was given {} elements",
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

    /// The dtype of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The shape.
    pub fn shape(&self) -> &'a [usize] {
        self.shape.as_slice()
    }

    /// The shape as exactly `N` dimensions.
    ///
    /// # Errors
    ///
    /// When the tensor has another number of dimensions.
    pub fn dims<const N: usize>(&self) -> Result<[usize; N], PluginError> {
        self.shape().try_into().map_err(|_| {
            PluginError::invalid(format!(
                "expected a tensor of {N} dimensions, found shape {:?}",
                self.shape()
            ))
        })
    }

    /// The elements, in main memory, as `T`.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device or of another dtype.
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
        // SAFETY: `new` took pointer and length from a slice of a type of this dtype that lives for
        // 'a, and `TensorBuf::view` from a buffer borrowed for 'a.
        Ok(unsafe { std::slice::from_raw_parts(self.data.cast::<T>(), self.len) })
    }

    /// The elements as `f32`: [`Self::elements`] by its usual type.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device or of another dtype.
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

/// A tensor handed over: C-contiguous, allocated by its producer, freed by the producer's own code
/// when the receiver drops it. A CUDA pointer belongs to the device's primary context, and the
/// producer has synchronised before handing it over.
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

// SAFETY: the buffer is owned and never written to; `from_vec` takes only `Send + Sync` elements.
unsafe impl Send for TensorBuf {}
// SAFETY: as above.
unsafe impl Sync for TensorBuf {}

extern "C" fn release_vec<T>(owner: *mut c_void) {
    // SAFETY: `from_vec` made `owner` with `Box::into_raw` from this very type, and `Drop` runs once.
    drop(unsafe { Box::from_raw(owner.cast::<Vec<T>>()) });
}

impl TensorBuf {
    /// Hands `data` over as a tensor of `shape`, without a copy.
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

    /// Lends the tensor.
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
    fn a_buffer_shows_what_was_put_in_without_moving_it() {
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
        // Their products are 0 and 6 once they have gone round.
        let half = 1 << (usize::BITS / 2);
        let round = (1 << (usize::BITS - 1)) + 3;
        for (length, shape) in [(0, [half, half]), (6, [round, 2])] {
            let data = vec![0u8; length];
            let error = TensorView::new(&data, &shape).unwrap_err();
            assert!(error.message.contains("too many elements"), "{error:?}");
            assert!(TensorBuf::from_vec(data, &shape).is_err());
        }
        let bytes = TensorBuf::from_vec(vec![0u8; 6], &[2, 3]).unwrap();
        assert!(bytes.view().f32s().is_err());
        assert!(bytes.view().dims::<3>().is_err());
    }

    // Linux tells how much memory there is in use.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_handed_over_is_given_back() {
        let pages = || -> usize {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse().unwrap()
        };
        let before = pages();
        for _ in 0..64 {
            drop(TensorBuf::from_vec(vec![1.0f32; 1 << 20], &[1 << 20]).unwrap());
        }
        // Each has 4 MiB, a thousand pages; all of them 64 thousand.
        let grown = pages().saturating_sub(before);
        assert!(grown < 16_000, "{grown} pages more are in use");
    }
}
