use crate::{DType, Device, PluginError, TensorElement, guard::guard};
use abi_stable::{
    StableAbi,
    std_types::{RSlice, RVec},
};
use std::{ffi::c_void, fmt, marker::PhantomData, slice};

/// A queue of work on a device, as its plugin numbers it. What was written on it is complete when the device has
/// finished the queue.
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stream(
    /// The number, often a pointer of the device's library.
    pub u64,
);

impl Stream {
    /// No queue: the elements are complete. Tensors in main memory are always complete.
    pub const COMPLETE: Self = Self(0);
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

/// Checks that a dtype's elements can be counted in bytes, and that `shape` does not have too many of them.
fn size(dtype: DType, shape: &[usize]) -> Result<usize, PluginError> {
    let len = elements(shape)?;
    match dtype.bytes(len) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(len),
        _ => Err(PluginError::invalid(format!(
            "a tensor of {dtype} of shape {shape:?} is too large"
        ))),
    }
}

fn same_count(expected: usize, found: usize, shape: &[usize]) -> Result<(), PluginError> {
    if expected == found {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "expected {expected} elements for a tensor of shape {shape:?}, found {found}"
    )))
}

/// What every form of a tensor says about its elements. The reserved words are 0 in this version.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
struct Layout {
    len: usize,
    dtype: DType,
    device: Device,
    /// Bits for properties of the elements. A receiver refuses bits that it does not know.
    flags: u64,
    stream: Stream,
    reserved: [u64; RESERVED],
}

impl Layout {
    fn in_main_memory<T: TensorElement>(len: usize) -> Self {
        Self::new(len, T::DTYPE, Device::CPU, Stream::COMPLETE)
    }

    fn new(len: usize, dtype: DType, device: Device, stream: Stream) -> Self {
        Self {
            len,
            dtype,
            device,
            flags: 0,
            stream,
            reserved: [0; RESERVED],
        }
    }

    /// Checks that the elements can be read here as `T`.
    fn readable_as<T: TensorElement>(&self) -> Result<(), PluginError> {
        self.readable()?;
        if self.dtype != T::DTYPE {
            return Err(PluginError::invalid(format!(
                "expected a tensor of {}, found {}",
                T::DTYPE,
                self.dtype
            )));
        }
        Ok(())
    }

    /// Checks that the elements can be read here.
    fn readable(&self) -> Result<(), PluginError> {
        if !self.device.is_main_memory() {
            return Err(PluginError::unsupported(format!(
                "expected a tensor in main memory, found one on {}",
                self.device
            )));
        }
        if self.flags != 0 || self.stream != Stream::COMPLETE {
            return Err(PluginError::unsupported(format!(
                "expected a complete, contiguous tensor, found one with flags {:#x} on stream {}",
                self.flags, self.stream.0
            )));
        }
        Ok(())
    }

    fn describe(&self, what: &str, shape: &[usize], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{what}({} {shape:?} on {})", self.dtype, self.device)
    }
}

/// Returns the shape as exactly `N` dimensions.
fn dims<const N: usize>(shape: &[usize]) -> Result<[usize; N], PluginError> {
    shape.try_into().map_err(|_| {
        PluginError::invalid(format!(
            "expected a tensor of {N} dimensions, found shape {shape:?}"
        ))
    })
}

/// A C-contiguous tensor that is borrowed for one call. The caller keeps it alive and unchanged until
/// the call returns, so the receiver has finished reading by then: it waits for its own device. Passing it does
/// not copy the elements.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TensorView<'a> {
    data: *const u8,
    shape: RSlice<'a, usize>,
    layout: Layout,
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
        same_count(elements(shape)?, data.len(), shape)?;
        Ok(Self {
            data: data.as_ptr().cast(),
            shape: shape.into(),
            layout: Layout::in_main_memory::<T>(data.len()),
            _borrow: PhantomData,
        })
    }

    /// Borrows memory of any device.
    ///
    /// # Errors
    ///
    /// When `shape` has too many elements.
    ///
    /// # Safety
    ///
    /// `data` must point to as many elements of `dtype` as `shape` has, on `device`, for all of `'a`. They must be
    /// complete once the device has finished `stream`.
    pub unsafe fn from_raw(
        data: *const u8,
        dtype: DType,
        device: Device,
        shape: &'a [usize],
        stream: Stream,
    ) -> Result<Self, PluginError> {
        Ok(Self {
            data,
            shape: shape.into(),
            layout: Layout::new(size(dtype, shape)?, dtype, device, stream),
            _borrow: PhantomData,
        })
    }

    /// Returns the dtype of the elements.
    pub fn dtype(&self) -> DType {
        self.layout.dtype
    }

    /// Returns the device that the elements are on.
    pub fn device(&self) -> Device {
        self.layout.device
    }

    /// Returns the stream that the elements are written on.
    pub fn stream(&self) -> Stream {
        self.layout.stream
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
        dims(self.shape())
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        // `size` and the slices of the constructors have fewer bytes than `usize` can count.
        self.dtype().bytes(self.layout.len).unwrap_or(usize::MAX)
    }

    /// Returns the address of the first element, on [`Self::device`].
    pub fn as_ptr(&self) -> *const u8 {
        self.data
    }

    /// Returns the elements, in main memory, as `T`.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device or has another dtype.
    pub fn elements<T: TensorElement>(&self) -> Result<&'a [T], PluginError> {
        self.layout.readable_as::<T>()?;
        if self.layout.len == 0 {
            return Ok(&[]);
        }
        // SAFETY: pointer and length come from a slice of this dtype that lives for 'a (`new`), from a buffer that
        // is borrowed for 'a (`TensorBuf::view`), or from a caller who promised as much (`from_raw`).
        Ok(unsafe { slice::from_raw_parts(self.data.cast::<T>(), self.layout.len) })
    }

    /// Returns the elements, in main memory, as bytes. For code that moves them without a use for their type.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device.
    pub fn as_bytes(&self) -> Result<&'a [u8], PluginError> {
        self.layout.readable()?;
        if self.layout.len == 0 {
            return Ok(&[]);
        }
        // SAFETY: as for `elements`, and numbers of any type can be read as bytes.
        Ok(unsafe { slice::from_raw_parts(self.data, self.bytes()) })
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
        self.layout.describe("TensorView", self.shape(), f)
    }
}

/// A C-contiguous tensor that the receiver may change during one call.
#[repr(C)]
#[derive(StableAbi)]
pub struct TensorViewMut<'a> {
    data: *mut u8,
    shape: RSlice<'a, usize>,
    layout: Layout,
    _borrow: PhantomData<&'a mut u8>,
}

// SAFETY: a view is an exclusive borrow of numbers.
unsafe impl Send for TensorViewMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for TensorViewMut<'_> {}

impl<'a> TensorViewMut<'a> {
    /// Borrows `data` as a tensor of `shape` in main memory.
    ///
    /// # Errors
    ///
    /// When `shape` does not have as many elements as `data`.
    pub fn new<T: TensorElement>(
        data: &'a mut [T],
        shape: &'a [usize],
    ) -> Result<Self, PluginError> {
        same_count(elements(shape)?, data.len(), shape)?;
        Ok(Self {
            data: data.as_mut_ptr().cast(),
            shape: shape.into(),
            layout: Layout::in_main_memory::<T>(data.len()),
            _borrow: PhantomData,
        })
    }

    /// Borrows memory of any device.
    ///
    /// # Errors
    ///
    /// When `shape` has too many elements.
    ///
    /// # Safety
    ///
    /// As for [`TensorView::from_raw`], and nothing else may access the memory for `'a`. The receiver queues its
    /// changes on `stream`, or finishes them before it returns.
    pub unsafe fn from_raw(
        data: *mut u8,
        dtype: DType,
        device: Device,
        shape: &'a [usize],
        stream: Stream,
    ) -> Result<Self, PluginError> {
        Ok(Self {
            data,
            shape: shape.into(),
            layout: Layout::new(size(dtype, shape)?, dtype, device, stream),
            _borrow: PhantomData,
        })
    }

    /// Returns the tensor, to be read.
    pub fn view(&self) -> TensorView<'_> {
        TensorView {
            data: self.data,
            shape: self.shape,
            layout: self.layout,
            _borrow: PhantomData,
        }
    }

    /// Borrows the tensor again, for a shorter time.
    pub fn reborrow(&mut self) -> TensorViewMut<'_> {
        TensorViewMut {
            data: self.data,
            shape: self.shape,
            layout: self.layout,
            _borrow: PhantomData,
        }
    }

    /// Returns the address of the first element, on the tensor's device.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.data
    }

    /// Returns the elements, in main memory, as `T`.
    ///
    /// # Errors
    ///
    /// When the tensor is on another device or has another dtype.
    pub fn elements_mut<T: TensorElement>(&mut self) -> Result<&mut [T], PluginError> {
        self.layout.readable_as::<T>()?;
        if self.layout.len == 0 {
            return Ok(&mut []);
        }
        // SAFETY: pointer and length come from an exclusive borrow of a slice of this dtype (`new`), or from a
        // caller who promised as much (`from_raw`). `self` is borrowed exclusively.
        Ok(unsafe { slice::from_raw_parts_mut(self.data.cast::<T>(), self.layout.len) })
    }
}

impl fmt::Debug for TensorViewMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout
            .describe("TensorViewMut", self.shape.as_slice(), f)
    }
}

/// An owned C-contiguous tensor. Its producer allocates it, and the producer's own code frees it when the
/// receiver drops it, from any thread. A pointer of a device belongs to the device's primary context.
#[repr(C)]
#[derive(StableAbi)]
pub struct TensorBuf {
    data: *const u8,
    shape: RVec<usize>,
    layout: Layout,
    /// The stream of the last use, which the release waits for.
    last_use: Stream,
    owner: *mut c_void,
    release: unsafe extern "C" fn(*mut c_void, Stream),
}

// SAFETY: the buffer is owned, and is written only through an exclusive borrow. Every owner is `Send + Sync`.
unsafe impl Send for TensorBuf {}
// SAFETY: as above.
unsafe impl Sync for TensorBuf {}

/// Calls the closure that owns a tensor's memory.
///
/// # Safety
///
/// `owner` was made by [`TensorBuf::owned_by`] from an `F`, and is not used again.
unsafe extern "C" fn release<F: FnOnce(Stream)>(owner: *mut c_void, last_use: Stream) {
    // A panic of the author's code must not cross the boundary. It cannot be reported either: nobody waits for it.
    let released = guard("release", || {
        // SAFETY: the caller's promise.
        let release = unsafe { Box::from_raw(owner.cast::<F>()) };
        release(last_use);
        Ok(())
    });
    if let Err(error) = released {
        crate::log(crate::LogLevel::ERROR, &error.message);
    }
}

impl TensorBuf {
    /// Makes a tensor of `shape` that owns `data`, without copying it.
    ///
    /// # Errors
    ///
    /// When `shape` does not have as many elements as `data`.
    pub fn from_vec<T: TensorElement>(data: Vec<T>, shape: &[usize]) -> Result<Self, PluginError> {
        same_count(elements(shape)?, data.len(), shape)?;
        let layout = Layout::in_main_memory::<T>(data.len());
        Ok(Self::owned_by(
            data.as_ptr().cast(),
            shape,
            layout,
            move |_| {
                drop(data);
            },
        ))
    }

    /// Makes a tensor of memory that `release` owns. It is called once, on any thread, with the stream of the last
    /// use: `stream`, or that of [`Self::used_on`]. Memory must not be reused before the device has finished it.
    ///
    /// # Errors
    ///
    /// When `shape` has too many elements. `release` is then dropped, not called.
    ///
    /// # Safety
    ///
    /// Until `release` is called, `data` must point to as many elements of `dtype` as `shape` has, on `device`, and
    /// nothing may change them. They must be complete once the device has finished `stream`.
    pub unsafe fn from_raw<F>(
        data: *const u8,
        dtype: DType,
        device: Device,
        shape: &[usize],
        stream: Stream,
        release: F,
    ) -> Result<Self, PluginError>
    where
        F: FnOnce(Stream) + Send + Sync + 'static,
    {
        let layout = Layout::new(size(dtype, shape)?, dtype, device, stream);
        Ok(Self::owned_by(data, shape, layout, release))
    }

    fn owned_by<F>(data: *const u8, shape: &[usize], layout: Layout, owner: F) -> Self
    where
        F: FnOnce(Stream) + Send + Sync + 'static,
    {
        Self {
            data,
            shape: shape.to_vec().into(),
            layout,
            last_use: layout.stream,
            owner: Box::into_raw(Box::new(owner)).cast(),
            release: release::<F>,
        }
    }

    /// Borrows the tensor.
    pub fn view(&self) -> TensorView<'_> {
        TensorView {
            data: self.data,
            shape: self.shape.as_rslice(),
            layout: self.layout,
            _borrow: PhantomData,
        }
    }

    /// Borrows the tensor to be written. Only [`crate::DeviceBuffer`] does so.
    pub(crate) fn writable(&mut self) -> TensorViewMut<'_> {
        TensorViewMut {
            data: self.data.cast_mut(),
            shape: self.shape.as_rslice(),
            layout: self.layout,
            _borrow: PhantomData,
        }
    }

    /// Notes that work on `stream` still reads the tensor. Its memory is not reused before the stream has finished.
    pub fn used_on(&mut self, stream: Stream) {
        self.last_use = stream;
    }
}

impl Drop for TensorBuf {
    fn drop(&mut self) {
        // SAFETY: `owner` belongs to `release`, and a buffer is dropped once.
        unsafe { (self.release)(self.owner, self.last_use) };
    }
}

impl fmt::Debug for TensorBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout.describe("TensorBuf", &self.shape, f)
    }
}

const RESERVED: usize = if cfg!(wider) { 5 } else { 4 };
