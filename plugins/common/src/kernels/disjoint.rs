//! A slice that several threads write, each its own part, and the strided product that ends there.

use gemm::Parallelism;
use std::{marker::PhantomData, mem::MaybeUninit};

/// A strided matrix for [`matmul`].
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// Its elements, from the first on.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
}

impl Operand<'_> {
    /// Whether `rows × columns` elements lie inside the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// `out [m, n] = factor · a [m, k] · b [k, n]`; `out` has `out_row` elements from row to row.
pub(crate) fn matmul(
    a: Operand<'_>,
    b: Operand<'_>,
    sizes: [usize; 3],
    out: &mut [f32],
    out_row: usize,
    factor: f32,
) {
    let out = Disjoint::new(out);
    // SAFETY: `out` is borrowed mutably, and all of it is this call's.
    unsafe { out.matmul(a, b, sizes, 0, out_row, factor, false) };
}

/// A slice whose elements tasks write, each its own.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a> {
    data: *mut f32,
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: who writes through it promises that nobody else uses those elements.
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

    /// A slice that has not been written yet.
    pub(crate) fn uninit(data: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            data: data.as_mut_ptr().cast(),
            len: data.len(),
            _borrow: PhantomData,
        }
    }

    /// Writes `values` from `start` on, or adds them to what is there if `added`.
    ///
    /// # Safety
    ///
    /// Nobody else uses these elements while it runs. What is added to has been written.
    pub(crate) unsafe fn store(self, start: usize, values: &[f32], added: bool) {
        assert!(
            start <= self.len && values.len() <= self.len - start,
            "a matrix product reaches beyond its output"
        );
        // SAFETY: the assertion keeps every element inside the slice, and by the contract nobody else uses
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

    /// `out [m, n] = factor · a [m, k] · b [k, n]`, or `+=` if `added`; `out` begins at `start` and has
    /// `out_row` elements from row to row. On this thread.
    ///
    /// # Safety
    ///
    /// Nobody else uses these elements while it runs.
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
            a.holds(m, k) && b.holds(k, n) && fits,
            "a matrix product reaches beyond its operands"
        );
        // SAFETY: the assertion above keeps every element that `gemm` touches inside the three slices,
        // rows of `out` do not overlap, and by the contract nobody else uses them.
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
