//! `x · Wᵀ`, and what follows it, in one go.

use super::{elementwise, product::product, reduce};
use crate::{activation::Activation, precision::Precision, weights::Elements};
use gemm::Parallelism;
use rayon::prelude::*;
use std::marker::PhantomData;

/// Up to this many rows each weight row is read once and multiplied with all of them: the product is
/// then bound by reading the weights, which a blocked product would pack first. Up to here a row's result is
/// the same to the last bit whatever rows are beside it.
pub const FEW_ROWS: usize = 4;

/// Weight rows that one task of the few-rows product takes.
const WEIGHT_ROWS_PER_TASK: usize = 32;

/// What happens to each output row `y` of a product: `residual + scale · activation(y + bias)`.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added to each row: `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// Multiplied element by element (LayerScale): `[outputs]`.
    pub scale: Option<&'a [f32]>,
    /// Added last: `[rows, outputs]`.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Applies it to a part of a row that begins at `output`; `start` is where that is in the whole
    /// output.
    #[inline(always)]
    pub(super) fn apply(&self, y: &mut [f32], output: usize, start: usize) {
        if let Some(bias) = self.bias {
            for (y, b) in y.iter_mut().zip(&bias[output..]) {
                *y += b;
            }
        }
        // A loop each: passed as a function, the activation would not be inlined.
        match self.activation {
            None => {}
            Some(Activation::Gelu) => {
                for y in y.iter_mut() {
                    *y = elementwise::gelu(*y);
                }
            }
            Some(Activation::GeluTanh) => {
                for y in y.iter_mut() {
                    *y = elementwise::gelu_tanh(*y);
                }
            }
            Some(Activation::QuickGelu) => {
                for y in y.iter_mut() {
                    *y = elementwise::quick_gelu(*y);
                }
            }
            Some(Activation::Silu) => {
                for y in y.iter_mut() {
                    *y = elementwise::silu(*y);
                }
            }
        }
        if let Some(scale) = self.scale {
            for (y, s) in y.iter_mut().zip(&scale[output..]) {
                *y *= s;
            }
        }
        if let Some(residual) = self.residual {
            for (y, r) in y.iter_mut().zip(&residual[start..]) {
                *y += r;
            }
        }
    }
}

/// `x [rows, inputs] · weight [outputs, inputs]ᵀ` → `[rows, outputs]`, then `epilogue`. Up to
/// [`FEW_ROWS`] rows are multiplied in `f32` whatever `precision` says: reading the weights bounds them.
///
/// The caller guarantees the lengths: they come from shapes that were checked.
pub fn linear(
    x: &[f32],
    weight: Elements<'_>,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue<'_>,
    precision: Precision,
) -> Vec<f32> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    assert_eq!(
        weight.len(),
        inputs * outputs,
        "a weight matrix has another size than its layer"
    );
    if rows > FEW_ROWS {
        return product(x, weight, inputs, outputs, epilogue, precision);
    }
    let mut y = vec![0.0; rows * outputs];
    if !y.is_empty() {
        few_rows(x, weight, inputs, outputs, &mut y);
        for (row, y) in y.chunks_exact_mut(outputs).enumerate() {
            apply(y, 0, row * outputs, epilogue);
        }
    }
    y
}

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

/// Each weight row once, against all rows of `x`.
fn few_rows(x: &[f32], weight: Elements<'_>, inputs: usize, outputs: usize, y: &mut [f32]) {
    let rows = x.len() / inputs;
    // `[outputs, rows]`: the tasks own disjoint parts.
    let mut transposed = vec![0.0f32; y.len()];
    transposed
        .par_chunks_mut(WEIGHT_ROWS_PER_TASK * rows)
        .enumerate()
        .for_each(|(task, out)| {
            let first = task * WEIGHT_ROWS_PER_TASK;
            let count = out.len() / rows;
            let mut scratch = Vec::new();
            // A row at a time: what is converted stays in the nearest cache.
            for (row, out) in (first..first + count).zip(out.chunks_exact_mut(rows)) {
                let row = weight.slice(row * inputs..(row + 1) * inputs);
                dots(x, row.to_f32(&mut scratch), inputs, out);
            }
        });
    for (output, column) in transposed.chunks_exact(rows).enumerate() {
        for (row, &value) in column.iter().enumerate() {
            y[row * outputs + output] = value;
        }
    }
}

multiversion! {
    /// The products of every row of `weights` with every row of `x`: `[weight rows, x rows]`.
    fn dots(x: &[f32], weights: &[f32], inputs: usize, out: &mut [f32]) {
        let rows = x.len() / inputs;
        for (w, out) in weights.chunks_exact(inputs).zip(out.chunks_exact_mut(rows)) {
            for (row, out) in x.chunks_exact(inputs).zip(out) {
                *out = reduce(row, w, #[inline(always)] |sum, a, b| a.mul_add(b, sum));
            }
        }
    }
}

multiversion! {
    /// Applies `epilogue` to a part of a row that begins at `output`; `start` is where that is in the
    /// whole output.
    pub(super) fn apply(y: &mut [f32], output: usize, start: usize, epilogue: Epilogue<'_>) {
        epilogue.apply(y, output, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// The same in `f64`, straight from the definition.
    fn naive(x: &[f32], w: &[f32], k: usize, n: usize, e: Epilogue<'_>) -> Vec<f64> {
        let mut y = Vec::new();
        for (r, row) in x.chunks(k).enumerate() {
            for (c, column) in w.chunks(k).enumerate() {
                let dot: f64 = row
                    .iter()
                    .zip(column)
                    .map(|(&a, &b)| f64::from(a) * f64::from(b))
                    .sum();
                let mut v = dot + e.bias.map_or(0.0, |b| f64::from(b[c]));
                if e.activation == Some(Activation::Gelu) {
                    v = 0.5 * v * (1.0 + libm::erf(v / std::f64::consts::SQRT_2));
                }
                v *= e.scale.map_or(1.0, |s| f64::from(s[c]));
                y.push(v + e.residual.map_or(0.0, |m| f64::from(m[r * n + c])));
            }
        }
        y
    }

    #[test]
    fn every_path_agrees_with_the_definition() {
        for (rows, k, n) in [
            (1, 7, 5),
            (3, 64, 33),
            (5, 48, 17),
            (300, 96, 700),
            (40, 600, 70),
            (900, 33, 600),
        ] {
            let x = numbers(rows * k, 1);
            let w = numbers(n * k, 2);
            let half: Vec<f16> = w.iter().map(|&v| f16::from_f32(v)).collect();
            let rounded: Vec<f32> = half.iter().map(|v| v.to_f32()).collect();
            let (bias, scale, residual) = (numbers(n, 3), numbers(n, 4), numbers(rows * n, 5));
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Some(Activation::Gelu),
                scale: Some(&scale),
                residual: Some(&residual),
            };
            for (elements, plain) in [(Elements::F32(&w), &w), (Elements::F16(&half), &rounded)] {
                for epilogue in [Epilogue::default(), epilogue] {
                    let found = linear(&x, elements, k, n, epilogue, Precision::F32);
                    let expected = naive(&x, plain, k, n, epilogue);
                    let worst = found
                        .iter()
                        .zip(&expected)
                        .map(|(&f, &e)| (f64::from(f) - e).abs())
                        .fold(0.0, f64::max);
                    let scale = expected.iter().fold(1.0f64, |scale, e| scale.max(e.abs()));
                    assert!(worst < 2e-6 * scale, "{rows}x{k}x{n}: {worst:e} of {scale}");
                }
            }
        }
    }
}
