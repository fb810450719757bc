//! Copies of tensors, which MPI reads and writes.

use half::bf16;
use merv_plugin_api::{DType, PluginError};

/// Bytes that are aligned for every number.
#[derive(Default)]
pub struct Staged {
    words: Vec<u64>,
    bytes: usize,
}

impl Staged {
    /// Allocates `bytes` zeros.
    pub fn zeros(bytes: usize) -> Result<Self, PluginError> {
        let mut words = Vec::new();
        let count = bytes.div_ceil(size_of::<u64>());
        words.try_reserve_exact(count)?;
        words.resize(count, 0);
        Ok(Self { words, bytes })
    }

    /// Copies the bytes at an address.
    ///
    /// # Safety
    ///
    /// `source` points to `bytes` bytes.
    pub unsafe fn copy_of(source: *const u8, bytes: usize) -> Result<Self, PluginError> {
        let mut staged = Self::zeros(bytes)?;
        if bytes > 0 {
            // SAFETY: the caller's promise, and `staged` has as many bytes.
            unsafe { staged.as_mut_ptr().copy_from_nonoverlapping(source, bytes) };
        }
        Ok(staged)
    }

    /// Copies the bytes to an address.
    ///
    /// # Safety
    ///
    /// `target` points to as many bytes.
    pub unsafe fn copy_to(&self, target: *mut u8) {
        if self.bytes > 0 {
            // SAFETY: the caller's promise.
            unsafe { target.copy_from_nonoverlapping(self.as_ptr(), self.bytes) };
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.words.as_ptr().cast()
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast()
    }

    /// Returns the values as `T`, a number of 2, 4 or 8 bytes.
    fn values<T: Copy>(&mut self) -> &mut [T] {
        let count = self.bytes / size_of::<T>();
        // SAFETY: the words are aligned for `T`, have `bytes` bytes, and every bit pattern is a number.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast::<T>(), count) }
    }

    /// Returns `bf16` values as `f32`.
    pub fn widened(mut self) -> Result<Self, PluginError> {
        let mut wide = Self::zeros(2 * self.bytes)?;
        for (wide, value) in wide.values::<f32>().iter_mut().zip(self.values::<bf16>()) {
            *wide = value.to_f32();
        }
        Ok(wide)
    }

    /// Returns `f32` values as `bf16`.
    pub fn narrowed(mut self) -> Result<Self, PluginError> {
        let mut narrow = Self::zeros(self.bytes / 2)?;
        for (narrow, value) in narrow.values::<bf16>().iter_mut().zip(self.values::<f32>()) {
            *narrow = bf16::from_f32(*value);
        }
        Ok(narrow)
    }

    /// Divides floating-point values.
    pub fn divide(&mut self, dtype: DType, divisor: u32) {
        match dtype {
            DType::F64 => self
                .values::<f64>()
                .iter_mut()
                .for_each(|x| *x /= f64::from(divisor)),
            _ => self
                .values::<f32>()
                .iter_mut()
                .for_each(|x| *x /= divisor as f32),
        }
    }
}
