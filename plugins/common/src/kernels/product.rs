//! The blocked matrix product (arXiv 0812.3137's scheme, "GotoBLAS"): panels of weights that stay in the
//! first-level cache, tiles of output that stay in registers.
//!
//! Forward it is `x · Wᵀ`. Weights are stored a row per output, so a panel must be transposed, and
//! converted where they are not `f32`; that is done once for all rows of `x`, by the thread that
//! multiplies with it. The two products of the backward pass, `gradient · W` and `gradientᵀ · x`, have
//! their second operand a row per input, and the last one its first operand transposed. In `bf16` two
//! inputs at a time are multiplied, as [`pairs`]: those of `x` are made beforehand, those of weights when a panel is.

use super::{
    disjoint::Disjoint,
    elements::Elements,
    epilogue::{Epilogue, apply},
    pairs,
    tile::{self, Column, Kernel, PACKED_STEP, Part},
};
use crate::precision::Precision;
use rayon::prelude::*;
use std::ops::Range;

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

/// What is multiplied in place of the operands' elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// They themselves.
    Exact,
    /// Each rounded to `bf16`.
    Rounded,
    /// Two inputs at a time, each rounded to `bf16`; see [`pairs`].
    Paired,
}

/// The sizes and operands of a product, whose lengths were checked.
#[derive(Clone, Copy)]
struct Product<'a> {
    /// In the form that is multiplied: `[rows, steps]`.
    x: Left<'a>,
    /// As it is stored.
    weight: Right<'a>,
    form: Form,
    rows: usize,
    inputs: usize,
    /// Inputs, or pairs of them.
    steps: usize,
    outputs: usize,
    epilogue: Epilogue<'a>,
    /// Whether the output is added to what is there.
    added: bool,
}

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
    /// `[panels, steps]`
    panels: Vec<Column<WIDTH>>,
    /// `[BLOCK_ROWS, panels]`
    sums: Vec<Column<WIDTH>>,
    /// A weight row that is not `f32` in the file, and the next one.
    rows: [Vec<f32>; 2],
    /// What is multiplied in place of a weight row.
    formed: Vec<f32>,
    /// Rows of an `x` that is stored column after column: `[DEPTH, BLOCK_ROWS]`.
    x: Vec<f32>,
}

impl<'a> Product<'a> {
    /// A product of the operands as they are, without an epilogue.
    fn new(x: Left<'a>, weight: Right<'a>, [rows, inputs, outputs]: [usize; 3]) -> Self {
        Self {
            x,
            weight,
            form: Form::Exact,
            rows,
            inputs,
            steps: inputs,
            outputs,
            epilogue: Epilogue::default(),
            added: false,
        }
    }

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

    fn run_as(&self, form: Form, out: Disjoint<'_>) {
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

    /// Computes the product with the widest instructions that the machine has.
    fn run(&self, out: Disjoint<'_>) {
        #[cfg(target_arch = "x86_64")]
        {
            if self.form == Form::Paired {
                assert!(multiplies_pairs(), "this machine has no product of pairs");
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

    /// Computes the product in tiles of `HEIGHT` rows by `WIDTH` outputs, with instructions that the
    /// machine has, into an output of `rows · outputs` elements that nobody else touches.
    fn run_tasks<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        out: Disjoint<'_>,
    ) {
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

    /// Multiplies a block of rows of `x` with packed panels: `sums [rows, panels]`.
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
                    let part = Part {
                        x,
                        stride,
                        sums: &mut sums[row * count + index..],
                        columns: count,
                        fresh: start == 0,
                    };
                    let left = rows - row;
                    // SAFETY: `run` has seen that the machine has what `K` needs.
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

    /// Finishes a block's rows of sums with the epilogue and stores them.
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
            // SAFETY: no other task reads or writes there. What is added to was written before.
            unsafe { out.store(start, sums, self.added) };
        }
    }

    /// Copies the task's part of weights that are stored a row per input into panels `[steps, WIDTH]`,
    /// outputs that do not exist being 0.
    fn pack_rows<const WIDTH: usize>(
        &self,
        weight: Elements<'_>,
        task: Task,
        panels: &mut [Column<WIDTH>],
        [scratch, next_scratch]: &mut [Vec<f32>; 2],
        formed: &mut Vec<f32>,
    ) {
        let part = |input: usize| {
            let start = input * self.outputs + task.first_output;
            weight.slice(start..start + task.outputs)
        };
        formed.resize(task.outputs, 0.0);
        for step in 0..self.steps {
            let (row, next);
            let row = match self.form {
                Form::Exact => {
                    row = part(step);
                    row.to_f32(scratch)
                }
                Form::Rounded => {
                    formed.copy_from_slice(part(step).to_f32(scratch));
                    pairs::round_all(formed);
                    formed.as_slice()
                }
                Form::Paired => {
                    row = part(2 * step);
                    let high: &[f32] = if 2 * step + 1 < self.inputs {
                        next = part(2 * step + 1);
                        next.to_f32(next_scratch)
                    } else {
                        &[]
                    };
                    pairs::join_rows(row.to_f32(scratch), high, formed);
                    formed.as_slice()
                }
            };
            let mut parts = row.chunks(WIDTH);
            for panel in panels.chunks_exact_mut(self.steps) {
                let part = parts.next().unwrap_or_default();
                let to = &mut panel[step].0;
                to[..part.len()].copy_from_slice(part);
                to[part.len()..].fill(0.0);
            }
        }
    }

    /// Transposes the task's weights into panels `[steps, WIDTH]`, outputs that do not exist being 0.
    fn pack_columns<const WIDTH: usize>(
        &self,
        weight: Elements<'_>,
        task: Task,
        panels: &mut [Column<WIDTH>],
        [scratch, _]: &mut [Vec<f32>; 2],
        formed: &mut Vec<f32>,
    ) {
        formed.resize(self.steps, 0.0);
        for (index, panel) in panels.chunks_exact_mut(self.steps).enumerate() {
            for lane in 0..WIDTH {
                let output = index * WIDTH + lane;
                if output >= task.outputs {
                    panel.iter_mut().for_each(|column| column.0[lane] = 0.0);
                    continue;
                }
                let start = (task.first_output + output) * self.inputs;
                let row = weight.slice(start..start + self.inputs);
                let row = row.to_f32(scratch);
                let row = match self.form {
                    Form::Exact => row,
                    Form::Rounded => {
                        formed.copy_from_slice(row);
                        pairs::round_all(formed);
                        formed.as_slice()
                    }
                    Form::Paired => {
                        pairs::join_neighbours(row, formed);
                        formed.as_slice()
                    }
                };
                for (column, &value) in panel.iter_mut().zip(row) {
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
    use crate::kernels::numbers;

    /// All layouts, those of the forward and of the backward pass, and all forms, against the definition: fresh
    /// and added to, with weights of single and of half precision.
    #[test]
    fn every_layout_agrees_with_the_definition() {
        let sizes = [(1, 3, 2), (7, 5, 33), (130, 300, 70), (97, 601, 129)];
        let forms = [Form::Exact, Form::Rounded, Form::Paired];
        if !multiplies_pairs() {
            eprintln!("not tested: this machine has no product of pairs");
        }
        let forms = forms.into_iter();
        let forms = forms.filter(|form| *form != Form::Paired || multiplies_pairs());
        let cases = forms.flat_map(|form| sizes.map(|sizes| (form, sizes)));
        let cases = cases.flat_map(|(form, sizes)| (0..16).map(move |flags| (form, sizes, flags)));
        for (form, (rows, inputs, outputs), flags) in cases {
            let [x_turned, w_turned, added, halves] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
            let (a, b) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
            let before = numbers(rows * outputs, 3);
            let half: Vec<_> = b.iter().map(|&value| half::f16::from_f32(value)).collect();
            let weight = match halves {
                true => Elements::F16(&half),
                false => Elements::F32(&b),
            };
            let operand = |value: f32| match form {
                Form::Exact => f64::from(value),
                _ => half::bf16::from_f32(value).to_f64(),
            };
            let stored = |at: usize| if halves { half[at].to_f32() } else { b[at] };
            let at = |turned: bool, row: usize, column: usize, [rows, columns]: [usize; 2]| {
                if turned {
                    column * rows + row
                } else {
                    row * columns + column
                }
            };
            let mut out = before.clone();
            let x = match x_turned {
                true => Left::Columns(&a),
                false => Left::Rows(&a),
            };
            let weight = match w_turned {
                true => Right::Columns(weight),
                false => Right::Rows(weight),
            };
            let product = Product {
                added,
                ..Product::new(x, weight, [rows, inputs, outputs])
            };
            product.run_as(form, Disjoint::new(&mut out));
            for (index, found) in out.iter().enumerate() {
                let (r, o) = (index / outputs, index % outputs);
                let product: f64 = (0..inputs)
                    .map(|i| {
                        operand(a[at(x_turned, r, i, [rows, inputs])])
                            * operand(stored(at(w_turned, i, o, [inputs, outputs])))
                    })
                    .sum();
                let expected = product + if added { f64::from(before[index]) } else { 0.0 };
                // No term is above 1.
                assert!(
                    (f64::from(*found) - expected).abs() < 2e-6 * (inputs + 1) as f64,
                    "{form:?}, {rows}x{inputs}x{outputs}, {flags:04b}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn nothing_times_something_is_nothing() {
        let mut out = [1.0; 4];
        let none = Right::Rows(Elements::F32(&[]));
        product_into(
            Left::Rows(&[]),
            none,
            [2, 0, 2],
            &mut out,
            false,
            Precision::Bf16,
        );
        assert_eq!(out, [0.0; 4]);
        let weight = Right::Rows(Elements::F32(&[1.0; 6]));
        product_into(
            Left::Rows(&[]),
            weight,
            [0, 3, 2],
            &mut [],
            false,
            Precision::Bf16,
        );
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
