//! A slice whose parts are written by different threads, and the strided product that writes to it.

use gemm::Parallelism;
use std::{marker::PhantomData, mem::MaybeUninit};

/// A strided matrix for [`matmul`].
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// The elements, from the first one of the matrix.
    pub data: &'a [f32],
    /// The number of elements from one row to the next.
    pub row: usize,
    /// The number of elements from one column to the next.
    pub column: usize,
}

impl Operand<'_> {
    /// Returns whether `rows × columns` elements are inside the slice.
    fn contains(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Computes `out [m, n] = factor · a [m, k] · b [k, n]`. `out` has `out_row` elements from one row to the
/// next.
pub(crate) fn matmul(
    a: Operand<'_>,
    b: Operand<'_>,
    sizes: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    factor: f32,
) {
    let out = Disjoint::new(out);
    // SAFETY: `out` is borrowed mutably, so only this call uses it.
    unsafe { out.matmul(a, b, sizes, 0, out_row, factor, false) };
}

/// A slice that several tasks write to, each to its own elements.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a> {
    data: *mut f32,
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: callers of the unsafe methods guarantee that no other thread uses the elements that they write.
unsafe impl Send for Disjoint<'_> {}
// SAFETY: as above.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            _borrow: PhantomData,
        }
    }

    /// Creates it from a slice that has not been written yet.
    pub(crate) fn uninit(data: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            data: data.as_mut_ptr().cast(),
            len: data.len(),
            _borrow: PhantomData,
        }
    }

    /// Writes `values` to the elements from `start` on, or adds them if `added`.
    ///
    /// # Safety
    ///
    /// No other thread uses these elements during the call. If `added`, they have been written before.
    pub(crate) unsafe fn store(self, start: usize, values: &[f32], added: bool) {
        assert!(
            start <= self.len && values.len() <= self.len - start,
            "a matrix product reaches beyond its output"
        );
        // SAFETY: by the assertion, every element is inside the slice. By the contract, no other thread uses
        // them.
        unsafe {
            let out = self.data.add(start);
            if added {
                for (index, value) in values.iter().enumerate() {
                    *out.add(index) += value;
                }
            } else {
                std::ptr::copy_nonoverlapping(values.as_ptr(), out, values.len());
            }
        }
    }

    /// Computes `out [m, n] = factor · a [m, k] · b [k, n]`, or `+=` if `added`, on this thread. `out` begins
    /// at `start` and has `out_row` elements from one row to the next.
    ///
    /// # Safety
    ///
    /// No other thread uses these elements during the call. If `added`, they have been written before.
    #[allow(clippy::too_many_arguments)]
    pub(crate) unsafe fn matmul(
        self,
        a: Operand<'_>,
        b: Operand<'_>,
        [m, k, n]: [usize; 3],
        start: usize,
        out_row: usize,
        factor: f32,
        added: bool,
    ) {
        let fits = out_row >= n && (m == 0 || start + (m - 1) * out_row + n <= self.len);
        assert!(
            a.contains(m, k) && b.contains(k, n) && fits,
            "a matrix product reaches beyond its operands"
        );
        // SAFETY: by the assertion, every element that `gemm` accesses is inside the three slices, and the rows of
        // `out` do not overlap. By the contract, no other thread uses them.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.data.add(start),
                1,
                out_row as isize,
                added,
                a.data.as_ptr(),
                a.column as isize,
                a.row as isize,
                b.data.as_ptr(),
                b.column as isize,
                b.row as isize,
                if added { 1.0 } else { 0.0 },
                factor,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}
