//! The blocked matrix product (arXiv 0812.3137's scheme, "GotoBLAS"): panels of weights that stay in the
//! first-level cache, tiles of output that stay in registers.
//!
//! Forward it is `x · Wᵀ`. Weights are stored a row per output, so a panel must be transposed, and
//! converted where they are not `f32`; that is done once for all rows of `x`, by the thread that
//! multiplies with it. The two products of the backward pass, `gradient · W` and `gradientᵀ · x`, have
//! their second operand a row per input, and the last one its first operand transposed. In `bf16` the
//! operands are [`pairs`] of inputs, made beforehand.

use super::{
    linear::{Epilogue, apply},
    pairs,
    tile::{self, Column, Kernel, PACKED_STEP, Part},
};
use crate::{precision::Precision, weights::Elements};
use rayon::prelude::*;
use std::borrow::Cow;

/// Inputs that a tile sums before it moves on: a panel of so many is about half of a first-level cache.
const DEPTH: usize = 256;

/// Outputs of one task, whose packed weights stay in the second-level cache.
const TASK_OUTPUTS: usize = 64;

/// Rows of `x` that go over a task's panels together and stay in the second-level cache with them.
const BLOCK_ROWS: usize = PACKED_STEP;

/// Tasks for each thread, at least, where there are rows enough: so that a thread that was held up does
/// not keep all others waiting.
const TASKS_PER_THREAD: usize = 4;

/// Rows of a task, at least: fewer are not worth packing the weights once more.
const TASK_ROWS: usize = 4 * BLOCK_ROWS;

/// A part of the output that one task computes.
#[derive(Clone, Copy)]
struct Task {
    first_row: usize,
    rows: usize,
    first_output: usize,
    outputs: usize,
}

/// The first operand, `[rows, inputs]`.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// Row after row.
    Rows(&'a [f32]),
    /// Column after column: the matrix is the transpose of what is stored.
    Columns(&'a [f32]),
}

/// The second operand, `[inputs, outputs]`.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Row after row.
    Rows(Elements<'a>),
    /// Column after column, as layers keep their weights.
    Columns(Elements<'a>),
}

/// The sizes and operands of a product, whose lengths were checked.
#[derive(Clone, Copy)]
struct Product<'a> {
    x: Left<'a>,
    weight: Right<'a>,
    rows: usize,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue<'a>,
    /// Whether the output is added to what is there.
    added: bool,
}

/// The output, which tasks write disjoint parts of.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: tasks write through it, each to elements of its own; see `run`.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// `x [rows, inputs] · weight [outputs, inputs]ᵀ` → `[rows, outputs]`, then `epilogue`; on all threads.
pub(super) fn product(
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
    let product = Product {
        x: Left::Rows(x),
        weight: Right::Columns(weight),
        rows,
        inputs,
        outputs,
        epilogue,
        added: false,
    };
    let out = Output(y.spare_capacity_mut().as_mut_ptr().cast());
    product.run_in(precision, out);
    // SAFETY: `run_in` has written all of the output.
    unsafe { y.set_len(rows * outputs) };
    y
}

/// `x [rows, inputs] · weight [inputs, outputs]` into `out [rows, outputs]`, or added to it; on all
/// threads. A quantised `weight` must be one whose rows are wanted as columns.
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
    if inputs == 0 {
        if !added {
            out.fill(0.0);
        }
        return;
    }
    let product = Product {
        x,
        weight,
        rows,
        inputs,
        outputs,
        epilogue: Epilogue::default(),
        added,
    };
    product.run_in(precision, Output(out.as_mut_ptr()));
}

/// Whether the processor has the instruction that [`pairs`] are for.
fn multiplies_pairs() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Cuts an output into tasks: by columns, and by rows too where there are few columns and many rows.
fn share_out(rows: usize, outputs: usize, threads: usize) -> Vec<Task> {
    let columns = outputs.div_ceil(TASK_OUTPUTS);
    let wanted = (TASKS_PER_THREAD * threads).div_ceil(columns.max(1));
    let parts = wanted.min(rows / TASK_ROWS).max(1);
    let height = rows.div_ceil(parts).next_multiple_of(BLOCK_ROWS);
    let mut tasks = Vec::with_capacity(columns * parts);
    for first_row in (0..rows).step_by(height) {
        for first_output in (0..outputs).step_by(TASK_OUTPUTS) {
            tasks.push(Task {
                first_row,
                rows: height.min(rows - first_row),
                first_output,
                outputs: TASK_OUTPUTS.min(outputs - first_output),
            });
        }
    }
    tasks
}

/// What a thread needs for a task, kept from one to the next.
#[derive(Default)]
struct Scratch<const WIDTH: usize> {
    /// `[panels, inputs]`
    panels: Vec<Column<WIDTH>>,
    /// `[BLOCK_ROWS, panels]`
    sums: Vec<Column<WIDTH>>,
    /// A weight row that is not `f32` in the file.
    row: Vec<f32>,
    /// Rows of an `x` that is stored column after column: `[DEPTH, BLOCK_ROWS]`.
    x: Vec<f32>,
}

impl Product<'_> {
    /// Computes the product of its operands, or of what they are in `bf16`.
    fn run_in(&self, precision: Precision, out: Output) {
        match precision {
            Precision::F32 => self.run(out),
            Precision::Bf16 => self.run_in_bf16(out),
        }
    }

    /// With the processor's instruction for pairs, or, where it has none, with rounded operands.
    fn run_in_bf16(&self, out: Output) {
        let paired = multiplies_pairs();
        let (Left::Rows(x) | Left::Columns(x)) = self.x;
        let (Right::Rows(weight) | Right::Columns(weight)) = self.weight;
        let x = Elements::F32(x);
        let x = match self.x {
            _ if !paired => pairs::rounded_each(x).into(),
            Left::Rows(_) => pairs::along_rows(x, self.inputs),
            Left::Columns(_) => pairs::across_rows(x, self.rows).into(),
        };
        let weight: Cow<'_, [f32]> = match self.weight {
            _ if !paired => pairs::rounded_each(weight).into(),
            Right::Rows(_) => pairs::across_rows(weight, self.outputs).into(),
            Right::Columns(_) => pairs::along_rows(weight, self.inputs),
        };
        let product = Product {
            x: match self.x {
                Left::Rows(_) => Left::Rows(&x),
                Left::Columns(_) => Left::Columns(&x),
            },
            weight: match self.weight {
                Right::Rows(_) => Right::Rows(Elements::F32(&weight)),
                Right::Columns(_) => Right::Columns(Elements::F32(&weight)),
            },
            inputs: self.inputs.div_ceil(if paired { 2 } else { 1 }),
            ..*self
        };
        #[cfg(target_arch = "x86_64")]
        if paired {
            return product.run_tasks::<tile::Avx512Bf16, 12, 32>(out);
        }
        product.run(out);
    }

    /// Computes the product with the widest instructions that the machine has.
    fn run(&self, out: Output) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return self.run_tasks::<tile::Avx512, 12, 32>(out);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return self.run_tasks::<tile::Avx2, 6, 16>(out);
            }
        }
        self.run_tasks::<tile::Portable, 4, 16>(out);
    }

    /// Computes the product in tiles of `HEIGHT` rows by `WIDTH` outputs, with instructions that the
    /// machine has, into an output of `rows · outputs` elements that nobody else touches.
    fn run_tasks<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(&self, out: Output) {
        share_out(self.rows, self.outputs, rayon::current_num_threads())
            .into_par_iter()
            .for_each_init(Scratch::default, |scratch, task| {
                self.run_task::<K, HEIGHT, WIDTH>(task, scratch, out);
            });
    }

    fn run_task<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        task: Task,
        scratch: &mut Scratch<WIDTH>,
        out: Output,
    ) {
        let count = task.outputs.div_ceil(WIDTH);
        let Scratch {
            panels,
            sums,
            row,
            x: packed,
        } = scratch;
        panels.resize(count * self.inputs, Column::ZERO);
        sums.resize(BLOCK_ROWS * count, Column::ZERO);
        match self.weight {
            Right::Columns(weight) => self.pack_columns(weight, task, panels, row),
            Right::Rows(weight) => self.pack_rows(weight, task, panels, row),
        }
        for block in (0..task.rows).step_by(BLOCK_ROWS) {
            let first = task.first_row + block;
            let rows = BLOCK_ROWS.min(task.rows - block);
            for start in (0..self.inputs).step_by(DEPTH) {
                let depth = DEPTH.min(self.inputs - start);
                if let Left::Columns(x) = self.x {
                    packed.resize(DEPTH * BLOCK_ROWS, 0.0);
                    let columns = packed
                        .chunks_exact_mut(BLOCK_ROWS)
                        .zip(start..start + depth);
                    for (to, input) in columns {
                        to[..rows].copy_from_slice(&x[input * self.rows + first..][..rows]);
                    }
                }
                for (index, panel) in panels.chunks_exact(self.inputs).enumerate() {
                    let panel = &panel[start..start + depth];
                    let mut row = 0;
                    while row < rows {
                        let (x, stride) = match self.x {
                            Left::Rows(x) => {
                                (&x[(first + row) * self.inputs + start..], self.inputs)
                            }
                            Left::Columns(_) => (&packed[row..], 1),
                        };
                        let part = Part {
                            x,
                            stride,
                            sums: &mut sums[row * count + index..],
                            columns: count,
                            fresh: start == 0,
                        };
                        let left = rows - row;
                        // SAFETY: `run` or `run_in_bf16` has seen that the machine has what `K` needs.
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
            for (offset, sums) in sums.chunks_exact_mut(count).take(rows).enumerate() {
                let sums = &mut Column::flatten(sums)[..task.outputs];
                let start = (first + offset) * self.outputs + task.first_output;
                apply(sums, task.first_output, start, self.epilogue);
                // SAFETY: `start + task.outputs` lies inside the output, whose size `run`'s callers have
                // made sure of, and no other task reads or writes there. What is added to was written
                // before; the caller borrows it.
                unsafe {
                    let out = out.0.add(start);
                    if self.added {
                        for (index, sum) in sums.iter().enumerate() {
                            *out.add(index) += sum;
                        }
                    } else {
                        std::ptr::copy_nonoverlapping(sums.as_ptr(), out, sums.len());
                    }
                }
            }
        }
    }

    /// Copies the task's part of weights that are stored a row per input into panels `[inputs, WIDTH]`,
    /// outputs that do not exist being 0.
    fn pack_rows<const WIDTH: usize>(
        &self,
        weight: Elements<'_>,
        task: Task,
        panels: &mut [Column<WIDTH>],
        scratch: &mut Vec<f32>,
    ) {
        for input in 0..self.inputs {
            let start = input * self.outputs + task.first_output;
            let row = weight.slice(start..start + task.outputs);
            let mut parts = row.to_f32(scratch).chunks(WIDTH);
            for panel in panels.chunks_exact_mut(self.inputs) {
                let part = parts.next().unwrap_or_default();
                let to = &mut panel[input].0;
                to[..part.len()].copy_from_slice(part);
                to[part.len()..].fill(0.0);
            }
        }
    }

    /// Transposes the task's weights into panels `[inputs, WIDTH]`, outputs that do not exist being 0.
    fn pack_columns<const WIDTH: usize>(
        &self,
        weight: Elements<'_>,
        task: Task,
        panels: &mut [Column<WIDTH>],
        scratch: &mut Vec<f32>,
    ) {
        for (index, panel) in panels.chunks_exact_mut(self.inputs).enumerate() {
            for lane in 0..WIDTH {
                let output = index * WIDTH + lane;
                if output >= task.outputs {
                    panel.iter_mut().for_each(|column| column.0[lane] = 0.0);
                    continue;
                }
                let start = (task.first_output + output) * self.inputs;
                let row = weight.slice(start..start + self.inputs);
                for (column, &value) in panel.iter_mut().zip(row.to_f32(scratch)) {
                    column.0[lane] = value;
                }
            }
        }
    }
}

/// One tile, as high as the `left` rows allow; returns its height.
///
/// # Safety
///
/// The machine has the instructions of `K`.
#[inline(always)]
unsafe fn tiles<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize, const STEP: usize>(
    part: Part<'_, WIDTH>,
    panel: &[Column<WIDTH>],
    left: usize,
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        match left {
            left if left >= HEIGHT => K::tile::<HEIGHT, STEP>(part, panel),
            left if left >= 4 => K::tile::<4, STEP>(part, panel),
            left if left >= 2 => K::tile::<2, STEP>(part, panel),
            _ => K::tile::<1, STEP>(part, panel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
            .collect()
    }

    /// All layouts, both of the forward and of the backward pass, against the definition: fresh and added to,
    /// in `f32` and of operands rounded to `bf16`.
    #[test]
    fn every_layout_agrees_with_the_definition() {
        let sizes = [(1, 3, 2), (7, 5, 33), (130, 300, 70), (97, 601, 129)];
        for ((rows, inputs, outputs), flags) in
            sizes.iter().flat_map(|s| (0..16).map(move |f| (*s, f)))
        {
            let [x_turned, w_turned, added, in_bf16] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
            let precision = if in_bf16 {
                Precision::Bf16
            } else {
                Precision::F32
            };
            let (a, b) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
            let before = numbers(rows * outputs, 3);
            let operand = |value: f32| match precision {
                Precision::F32 => f64::from(value),
                Precision::Bf16 => half::bf16::from_f32(value).to_f64(),
            };
            let at = |turned: bool, row: usize, column: usize, [rows, columns]: [usize; 2]| {
                if turned {
                    column * rows + row
                } else {
                    row * columns + column
                }
            };
            let x = if x_turned {
                Left::Columns(&a)
            } else {
                Left::Rows(&a)
            };
            let weight = Elements::F32(&b);
            let weight = if w_turned {
                Right::Columns(weight)
            } else {
                Right::Rows(weight)
            };
            let mut out = before.clone();
            product_into(
                x,
                weight,
                [rows, inputs, outputs],
                &mut out,
                added,
                precision,
            );
            for (index, found) in out.iter().enumerate() {
                let (r, o) = (index / outputs, index % outputs);
                let product: f64 = (0..inputs)
                    .map(|i| {
                        operand(a[at(x_turned, r, i, [rows, inputs])])
                            * operand(b[at(w_turned, i, o, [inputs, outputs])])
                    })
                    .sum();
                let expected = product + if added { f64::from(before[index]) } else { 0.0 };
                assert!(
                    (f64::from(*found) - expected).abs() < 2e-6 * (inputs + 1) as f64,
                    "{rows}x{inputs}x{outputs}, {flags:04b}: {found}, {expected}"
                );
            }
        }
    }

    /// Where the processor multiplies pairs, what it computes is what others compute.
    #[test]
    fn pairs_and_rounded_operands_give_the_same() {
        let (rows, inputs, outputs) = (50, 77, 40);
        let (x, w) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
        let product = |x, weight, precision| {
            let mut out = vec![0.0; rows * outputs];
            product_into(
                Left::Rows(x),
                Right::Columns(Elements::F32(weight)),
                [rows, inputs, outputs],
                &mut out,
                false,
                precision,
            );
            out
        };
        let found = product(&x, &w, Precision::Bf16);
        let [x, w] = [&x, &w].map(|values| pairs::rounded_each(Elements::F32(values)));
        let expected = product(&x, &w, Precision::F32);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }

    #[test]
    fn tasks_cover_every_element_once() {
        for (rows, outputs, threads) in [(5, 1, 1), (97, 64, 16), (784, 65, 2), (3137, 768, 64)] {
            let mut written = vec![0u8; rows * outputs];
            let tasks = share_out(rows, outputs, threads);
            for task in &tasks {
                for row in task.first_row..task.first_row + task.rows {
                    let start = row * outputs + task.first_output;
                    for count in &mut written[start..start + task.outputs] {
                        *count += 1;
                    }
                }
            }
            assert!(written.iter().all(|&count| count == 1), "{rows}x{outputs}");
            assert!(rows < 2 * TASK_ROWS || tasks.len() >= threads);
        }
    }
}
