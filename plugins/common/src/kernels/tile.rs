//! The innermost loop of the blocked product, which computes a tile of output in registers.

/// `WIDTH` neighbouring elements of a row, aligned to a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Column<const WIDTH: usize>(pub [f32; WIDTH]);

impl<const WIDTH: usize> Column<WIDTH> {
    pub(super) const ZERO: Self = Self([0.0; WIDTH]);

    /// Returns the elements of several columns.
    pub(super) fn flatten(columns: &mut [Self]) -> &mut [f32] {
        const { assert!(size_of::<Self>() == size_of::<[f32; WIDTH]>()) };
        // SAFETY: by the assertion, a column consists of its elements without padding.
        unsafe {
            std::slice::from_raw_parts_mut(columns.as_mut_ptr().cast(), columns.len() * WIDTH)
        }
    }
}

/// The number of elements from one input to the next in a packed `x`, where the rows are neighbours. In an
/// `x` that is not packed, the inputs are neighbours.
pub(super) const PACKED_STEP: usize = 96;

/// The elements that a tile reads and writes.
pub(super) struct TileOperands<'a, const WIDTH: usize> {
    /// From the first row and input of the tile.
    pub x: &'a [f32],
    /// The number of elements from one row of `x` to the next; 1 if `x` is packed.
    pub stride: usize,
    /// From the first row of the tile.
    pub sums: &'a mut [Column<WIDTH>],
    /// The number of columns from one row of `sums` to the next.
    pub columns: usize,
    /// Whether the sums start at 0.
    pub fresh: bool,
}

impl<const WIDTH: usize> TileOperands<'_, WIDTH> {
    /// Asserts that a tile of `height` rows and `depth` inputs is inside the slices.
    fn check(&self, height: usize, depth: usize, step: usize) {
        assert!(
            (height - 1) * self.stride + depth.saturating_sub(1) * step < self.x.len()
                && (height - 1) * self.columns < self.sums.len(),
            "a tile reaches beyond its operands"
        );
    }
}

/// The instructions that compute tiles of `WIDTH` outputs.
pub(super) trait Kernel<const WIDTH: usize> {
    /// Computes `sums += x · panel` for `HEIGHT` rows of an `x` whose inputs are `STEP` elements apart, and
    /// returns `HEIGHT`.
    ///
    /// # Safety
    ///
    /// The CPU must support the instructions.
    unsafe fn tile<const HEIGHT: usize, const STEP: usize>(
        part: TileOperands<'_, WIDTH>,
        panel: &[Column<WIDTH>],
    ) -> usize;
}

/// Without explicit vector instructions.
pub(super) struct Portable;

impl Kernel<16> for Portable {
    unsafe fn tile<const HEIGHT: usize, const STEP: usize>(
        part: TileOperands<'_, 16>,
        panel: &[Column<16>],
    ) -> usize {
        for r in 0..HEIGHT {
            let x = part.x[r * part.stride..].iter().step_by(STEP);
            let out = &mut part.sums[r * part.columns];
            let mut sums = if part.fresh { Column::ZERO } else { *out };
            for (&x, weights) in x.zip(panel) {
                for (sum, weight) in sums.0.iter_mut().zip(weights.0) {
                    *sum += x * weight;
                }
            }
            *out = sums;
        }
        HEIGHT
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Avx512Bf16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Column, Kernel, TileOperands};
    use std::arch::x86_64::{
        __m256, __m512, __m512bh, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_storeu_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    /// Two registers of 8 elements for each row: 6 rows fill 12 of 16 registers.
    pub(crate) struct Avx2;

    /// Two registers of 16 elements for each row: 12 rows fill 24 of 32 registers.
    pub(crate) struct Avx512;

    /// As [`Avx512`], with two `bf16` in each element; see [`pairs`](super::super::pairs).
    pub(crate) struct Avx512Bf16;

    /// Returns `sum + x₀·w₀ + x₁·w₁` for pairs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn add_pairs(x: __m512, w: __m512, sum: __m512) -> __m512 {
        // SAFETY: both types have 512 bits, and every bit pattern is valid.
        let [x, w]: [__m512bh; 2] = unsafe { std::mem::transmute([x, w]) };
        _mm512_dpbf16_ps(sum, x, w)
    }

    macro_rules! kernel {
        ($name:ident, $width:literal, $half:literal, $features:literal, $register:ty,
         $zero:ident, $load:ident, $store:ident, $set:ident, $fma:ident) => {
            impl Kernel<$width> for $name {
                #[target_feature(enable = $features)]
                unsafe fn tile<const HEIGHT: usize, const STEP: usize>(
                    part: TileOperands<'_, $width>,
                    panel: &[Column<$width>],
                ) -> usize {
                    part.check(HEIGHT, panel.len(), STEP);
                    let mut sums: [[$register; 2]; HEIGHT] = [[$zero(); 2]; HEIGHT];
                    let (x, out) = (part.x.as_ptr(), part.sums.as_mut_ptr());
                    // SAFETY: by `check`, all rows are inside `x` and `sums`. A column of the panel has
                    // the size of two registers.
                    unsafe {
                        if !part.fresh {
                            for r in 0..HEIGHT {
                                let out = (&raw const (*out.add(r * part.columns)).0).cast::<f32>();
                                sums[r] = [$load(out), $load(out.add($half))];
                            }
                        }
                        for (p, weights) in panel.iter().enumerate() {
                            let low = $load(weights.0.as_ptr());
                            let high = $load(weights.0.as_ptr().add($half));
                            for r in 0..HEIGHT {
                                let value = $set(*x.add(r * part.stride + p * STEP));
                                sums[r][0] = $fma(value, low, sums[r][0]);
                                sums[r][1] = $fma(value, high, sums[r][1]);
                            }
                        }
                        for r in 0..HEIGHT {
                            let out = (&raw mut (*out.add(r * part.columns)).0).cast::<f32>();
                            $store(out, sums[r][0]);
                            $store(out.add($half), sums[r][1]);
                        }
                    }
                    HEIGHT
                }
            }
        };
    }

    kernel!(
        Avx2,
        16,
        8,
        "avx2,fma",
        __m256,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps
    );
    kernel!(
        Avx512,
        32,
        16,
        "avx512f",
        __m512,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps
    );
    kernel!(
        Avx512Bf16,
        32,
        16,
        "avx512f,avx512bf16",
        __m512,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        add_pairs
    );
}
