//! Tensors as they cross the boundary: a pointer, a dtype, a device, a stream and a shape.

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
    reserved: [u64; 4],
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
            reserved: [0; 4],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceKind;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_buffer_does_not_copy_its_elements() {
        let data = vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let address = data.as_ptr();
        let buffer = TensorBuf::from_vec(data, &[2, 3]).unwrap();
        let view = buffer.view();
        assert_eq!(view.f32s().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(view.f32s().unwrap().as_ptr(), address);
        assert_eq!(view.as_ptr(), address.cast());
        assert_eq!((view.dims::<2>().unwrap(), view.bytes()), ([2, 3], 24));
    }

    #[test]
    fn wrong_use_is_an_error() {
        assert!(TensorBuf::from_vec(vec![0u8; 5], &[2, 3]).is_err());
        assert!(TensorBuf::from_vec(vec![0u8; 0], &[usize::MAX, 16]).is_err());
        assert!(TensorViewMut::new(&mut [0u8; 5], &[2, 3]).is_err());
        // Products that would wrap around to 0 and 6.
        let half = 1 << (usize::BITS / 2);
        let wrapping = (1 << (usize::BITS - 1)) + 3;
        for (length, shape) in [(0, [half, half]), (6, [wrapping, 2])] {
            let mut data = vec![0u8; length];
            let error = TensorView::new(&data, &shape).unwrap_err();
            assert!(error.message.contains("too many elements"), "{error:?}");
            assert!(TensorViewMut::new(&mut data, &shape).is_err());
            assert!(TensorBuf::from_vec(data, &shape).is_err());
        }
        let bytes = TensorBuf::from_vec(vec![0u8; 6], &[2, 3]).unwrap();
        assert!(bytes.view().f32s().is_err());
        assert!(bytes.view().dims::<3>().is_err());
    }

    #[test]
    fn elements_can_be_changed_in_place() {
        let mut data = [1.0f32, 2.0];
        let mut view = TensorViewMut::new(&mut data, &[2]).unwrap();
        view.reborrow().elements_mut::<f32>().unwrap()[1] = 5.0;
        assert_eq!(view.view().f32s().unwrap(), [1.0, 5.0]);
        assert!(view.elements_mut::<u8>().is_err());
        assert_eq!(data, [1.0, 5.0]);
    }

    #[test]
    fn a_tensor_is_shown_by_its_type_shape_and_device() {
        let mut data = [0u8; 6];
        let view = TensorView::new(&data, &[2, 3]).unwrap();
        assert_eq!(format!("{view:?}"), "TensorView(u8 [2, 3] on cpu)");
        let view = TensorViewMut::new(&mut data, &[2, 3]).unwrap();
        assert_eq!(format!("{view:?}"), "TensorViewMut(u8 [2, 3] on cpu)");
        let (buffer, _) = on_a_device(&[4], Stream(7));
        assert_eq!(format!("{buffer:?}"), "TensorBuf(f32 [4] on ext:0)");
    }

    /// A tensor on a device whose memory cannot be read, and the streams that its release was called with.
    fn on_a_device(shape: &[usize], stream: Stream) -> (TensorBuf, Arc<Mutex<Vec<Stream>>>) {
        let released = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&released);
        let device = Device::new(DeviceKind::EXTENSION, 0);
        let release = move |stream| log.lock().unwrap().push(stream);
        let data = std::ptr::without_provenance(0x1000);
        // SAFETY: nothing reads the memory.
        let buffer =
            unsafe { TensorBuf::from_raw(data, DType::F32, device, shape, stream, release) };
        (buffer.unwrap(), released)
    }

    #[test]
    fn memory_of_a_device_is_never_read_here() {
        let (mut buffer, released) = on_a_device(&[2, 2], Stream(7));
        let error = buffer.view().f32s().unwrap_err();
        assert!(error.message.contains("on ext:0"), "{error:?}");
        assert_eq!(buffer.view().stream(), Stream(7));
        buffer.used_on(Stream(9));
        assert!(released.lock().unwrap().is_empty());
        drop(buffer);
        assert_eq!(*released.lock().unwrap(), [Stream(9)]);
        let (buffer, released) = on_a_device(&[2, 2], Stream(7));
        drop(buffer);
        assert_eq!(*released.lock().unwrap(), [Stream(7)]);
    }

    #[test]
    fn elements_that_are_not_complete_are_not_read() {
        let data = [1.0f32];
        let data = data.as_ptr().cast();
        // SAFETY: the array lives until the end of the test.
        let view = unsafe { TensorView::from_raw(data, DType::F32, Device::CPU, &[1], Stream(3)) }
            .unwrap();
        let error = view.f32s().unwrap_err();
        assert!(error.message.contains("on stream 3"), "{error:?}");
    }

    #[test]
    fn a_release_that_panics_does_not_escape() {
        let device = Device::CPU;
        // SAFETY: an empty tensor has no elements.
        let buffer = unsafe {
            TensorBuf::from_raw(
                std::ptr::null(),
                DType::F32,
                device,
                &[0],
                Stream::COMPLETE,
                |_| panic!("no"),
            )
        };
        drop(buffer.unwrap());
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
