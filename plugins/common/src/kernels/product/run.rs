//! The product itself, on all threads.

use super::{
    operands::{Form, Left, Product, Right},
    tasks::{BLOCK_ROWS, Task, divide},
};
use crate::{
    kernels::{
        disjoint::Disjoint,
        elements::Elements,
        epilogue::{Epilogue, apply},
        pairs,
        tile::{self, Column, Kernel, PACKED_STEP, TileOperands},
    },
    precision::Precision,
};
use rayon::prelude::*;
use std::ops::Range;

/// Inputs that a tile sums in one pass. A panel of this depth fills about half of a first-level cache.
const DEPTH: usize = 256;

/// Returns `x [rows, inputs] · weight [outputs, inputs]ᵀ` as `[rows, outputs]`, with `epilogue` applied. Uses
/// all threads.
pub(in crate::kernels) fn product(
    x: &[f32],
    weight: Elements<'_>,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue<'_>,
    precision: Precision,
) -> Vec<f32> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    let residual = epilogue.residual.map_or(rows * outputs, <[f32]>::len);
    assert!(
        weight.len() == inputs * outputs && residual == rows * outputs,
        "a matrix product reaches beyond its operands"
    );
    let mut y: Vec<f32> = Vec::with_capacity(rows * outputs);
    let sizes = [rows, inputs, outputs];
    let product = Product {
        epilogue,
        ..Product::new(Left::Rows(x), Right::Columns(weight), sizes)
    };
    let out = Disjoint::uninit(&mut y.spare_capacity_mut()[..rows * outputs]);
    product.run_in(precision, out);
    // SAFETY: `run_in` has written all of the output.
    unsafe { y.set_len(rows * outputs) };
    y
}

/// Writes `x [rows, inputs] · weight [inputs, outputs]` to `out [rows, outputs]`, or adds it if `added`. Uses
/// all threads. A quantised `weight` must be [`Right::Columns`].
pub(crate) fn product_into(
    x: Left<'_>,
    weight: Right<'_>,
    [rows, inputs, outputs]: [usize; 3],
    out: &mut [f32],
    added: bool,
    precision: Precision,
) {
    let (Left::Rows(left) | Left::Columns(left)) = x;
    let (Right::Rows(right) | Right::Columns(right)) = weight;
    assert!(
        left.len() == rows * inputs
            && right.len() == inputs * outputs
            && out.len() == rows * outputs,
        "a matrix product reaches beyond its operands"
    );
    if rows == 0 {
        return;
    }
    if inputs == 0 {
        if !added {
            out.fill(0.0);
        }
        return;
    }
    let product = Product {
        added,
        ..Product::new(x, weight, [rows, inputs, outputs])
    };
    product.run_in(precision, Disjoint::new(out));
}

/// Returns whether the CPU has the instruction that multiplies [`pairs`].
pub(super) fn multiplies_pairs() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Buffers that a thread keeps from one task to the next.
#[derive(Default)]
struct Scratch<const WIDTH: usize> {
    /// `[panels, steps]`
    panels: Vec<Column<WIDTH>>,
    /// `[BLOCK_ROWS, panels]`
    sums: Vec<Column<WIDTH>>,
    /// A weight row that is not `f32` in the file, and the row after it.
    rows: [Vec<f32>; 2],
    /// A weight row in the form that is multiplied.
    formed: Vec<f32>,
    /// Rows of an `x` that is stored column by column: `[DEPTH, BLOCK_ROWS]`.
    x: Vec<f32>,
}

impl Product<'_> {
    fn run_in(&self, precision: Precision, out: Disjoint<'_>) {
        self.run_as(
            match precision {
                Precision::F32 => Form::Exact,
                Precision::Bf16 if multiplies_pairs() => Form::Paired,
                Precision::Bf16 => Form::Rounded,
            },
            out,
        );
    }

    pub(super) fn run_as(&self, form: Form, out: Disjoint<'_>) {
        let formed = match (form, self.x) {
            (Form::Exact, _) => return self.run(out),
            (Form::Rounded, Left::Rows(x) | Left::Columns(x)) => pairs::rounded_each(x),
            (Form::Paired, Left::Rows(x)) => pairs::along_rows(x, self.inputs),
            (Form::Paired, Left::Columns(x)) => pairs::across_rows(x, self.rows),
        };
        let product = Product {
            x: match self.x {
                Left::Rows(_) => Left::Rows(&formed),
                Left::Columns(_) => Left::Columns(&formed),
            },
            form,
            steps: match form {
                Form::Paired => self.inputs.div_ceil(2),
                _ => self.inputs,
            },
            ..*self
        };
        product.run(out);
    }

    /// Computes the product with the widest instructions that the CPU supports.
    fn run(&self, out: Disjoint<'_>) {
        #[cfg(target_arch = "x86_64")]
        {
            if self.form == Form::Paired {
                assert!(multiplies_pairs(), "this CPU cannot multiply pairs");
                return self.run_tasks::<tile::Avx512Bf16, 12, 32>(out);
            }
            if is_x86_feature_detected!("avx512f") {
                return self.run_tasks::<tile::Avx512, 12, 32>(out);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return self.run_tasks::<tile::Avx2, 6, 16>(out);
            }
        }
        self.run_tasks::<tile::Portable, 4, 16>(out);
    }

    /// Computes the product in tiles of `HEIGHT` rows by `WIDTH` outputs. The CPU must support the
    /// instructions of `K`, and no other thread may use the `rows · outputs` elements of `out`.
    fn run_tasks<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        out: Disjoint<'_>,
    ) {
        divide(self.rows, self.outputs, rayon::current_num_threads())
            .into_par_iter()
            .for_each_init(Scratch::default, |scratch, task| {
                self.run_task::<K, HEIGHT, WIDTH>(task, scratch, out);
            });
    }

    fn run_task<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        task: Task,
        scratch: &mut Scratch<WIDTH>,
        out: Disjoint<'_>,
    ) {
        let count = task.outputs.div_ceil(WIDTH);
        let Scratch {
            panels,
            sums,
            rows: weight_rows,
            formed,
            x: packed,
        } = scratch;
        panels.resize(count * self.steps, Column::ZERO);
        sums.resize(BLOCK_ROWS * count, Column::ZERO);
        match self.weight {
            Right::Columns(weight) => self.pack_columns(weight, task, panels, weight_rows, formed),
            Right::Rows(weight) => self.pack_rows(weight, task, panels, weight_rows, formed),
        }
        for block in (0..task.rows).step_by(BLOCK_ROWS) {
            let rows = task.first_row + block..task.first_row + task.rows.min(block + BLOCK_ROWS);
            self.multiply::<K, HEIGHT, WIDTH>(rows.clone(), panels, sums, packed);
            self.store(rows, task, sums.chunks_exact_mut(count), out);
        }
    }

    /// Multiplies a block of rows of `x` with packed panels, into `sums [rows, panels]`.
    fn multiply<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        block: Range<usize>,
        panels: &[Column<WIDTH>],
        sums: &mut [Column<WIDTH>],
        packed: &mut Vec<f32>,
    ) {
        let (first, rows) = (block.start, block.len());
        let count = panels.len() / self.steps;
        for start in (0..self.steps).step_by(DEPTH) {
            let depth = DEPTH.min(self.steps - start);
            if let Left::Columns(x) = self.x {
                packed.resize(DEPTH * BLOCK_ROWS, 0.0);
                let columns = packed
                    .chunks_exact_mut(BLOCK_ROWS)
                    .zip(start..start + depth);
                for (to, input) in columns {
                    to[..rows].copy_from_slice(&x[input * self.rows + first..][..rows]);
                }
            }
            for (index, panel) in panels.chunks_exact(self.steps).enumerate() {
                let panel = &panel[start..start + depth];
                let mut row = 0;
                while row < rows {
                    let (x, stride) = match self.x {
                        Left::Rows(x) => (&x[(first + row) * self.steps + start..], self.steps),
                        Left::Columns(_) => (&packed[row..], 1),
                    };
                    let part = TileOperands {
                        x,
                        stride,
                        sums: &mut sums[row * count + index..],
                        columns: count,
                        fresh: start == 0,
                    };
                    let left = rows - row;
                    // SAFETY: `run` has checked that the CPU supports the instructions of `K`.
                    row += unsafe {
                        match self.x {
                            Left::Rows(_) => tiles::<K, HEIGHT, WIDTH, 1>(part, panel, left),
                            Left::Columns(_) => {
                                tiles::<K, HEIGHT, WIDTH, PACKED_STEP>(part, panel, left)
                            }
                        }
                    };
                }
            }
        }
    }

    /// Applies the epilogue to the sums of a block of rows and stores them.
    fn store<'s, const WIDTH: usize>(
        &self,
        block: Range<usize>,
        task: Task,
        sums: impl Iterator<Item = &'s mut [Column<WIDTH>]>,
        out: Disjoint<'_>,
    ) {
        for (row, sums) in block.zip(sums) {
            let sums = &mut Column::flatten(sums)[..task.outputs];
            let start = row * self.outputs + task.first_output;
            apply(sums, task.first_output, start, self.epilogue);
            // SAFETY: no other task uses these elements. If they are added to, they were written before.
            unsafe { out.store(start, sums, self.added) };
        }
    }
}

/// Computes one tile, which is as high as the `left` rows allow, and returns its height.
///
/// # Safety
///
/// The CPU must support the instructions of `K`.
#[inline(always)]
unsafe fn tiles<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize, const STEP: usize>(
    part: TileOperands<'_, WIDTH>,
    panel: &[Column<WIDTH>],
    left: usize,
) -> usize {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        match left {
            left if left >= HEIGHT => K::tile::<HEIGHT, STEP>(part, panel),
            left if left >= 4 => K::tile::<4, STEP>(part, panel),
            left if left >= 2 => K::tile::<2, STEP>(part, panel),
            _ => K::tile::<1, STEP>(part, panel),
        }
    }
}
