//! The blocked matrix product `x · Wᵀ` (arXiv 0812.3137's scheme, "GotoBLAS"): panels of weights that
//! stay in the first-level cache, tiles of output that stay in registers.
//!
//! Weights are stored a row per output, so a panel must be transposed, and converted where they are not
//! `f32`; that is done once for all rows of `x`, by the thread that multiplies with it.

use super::{
    linear::{Epilogue, apply},
    tile::{self, Column, Kernel, Part},
};
use crate::weights::Elements;
use rayon::prelude::*;

/// Inputs that a tile sums before it moves on: a panel of so many is about half of a first-level cache.
const DEPTH: usize = 256;

/// Outputs of one task, whose packed weights stay in the second-level cache.
const TASK_OUTPUTS: usize = 64;

/// Rows of `x` that go over a task's panels together and stay in the second-level cache with them.
const BLOCK_ROWS: usize = 96;

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

/// The sizes and operands of a product, whose lengths were checked.
#[derive(Clone, Copy)]
struct Product<'a> {
    x: &'a [f32],
    weight: Elements<'a>,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue<'a>,
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
) -> Vec<f32> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    let residual = epilogue.residual.map_or(rows * outputs, <[f32]>::len);
    assert!(
        weight.len() == inputs * outputs && residual == rows * outputs,
        "a matrix product reaches beyond its operands"
    );
    let product = Product {
        x,
        weight,
        inputs,
        outputs,
        epilogue,
    };
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return product.run::<tile::Avx512, 12, 32>(rows);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return product.run::<tile::Avx2, 6, 16>(rows);
        }
    }
    product.run::<tile::Portable, 4, 16>(rows)
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
}

impl Product<'_> {
    /// Computes the product in tiles of `HEIGHT` rows by `WIDTH` outputs, with instructions that the
    /// machine has.
    fn run<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        rows: usize,
    ) -> Vec<f32> {
        let mut y: Vec<f32> = Vec::with_capacity(rows * self.outputs);
        let out = Output(y.spare_capacity_mut().as_mut_ptr().cast());
        share_out(rows, self.outputs, rayon::current_num_threads())
            .into_par_iter()
            .for_each_init(Scratch::default, |scratch, task| {
                self.run_task::<K, HEIGHT, WIDTH>(task, scratch, out);
            });
        // SAFETY: the tasks cover the output, and each has written all of its part.
        unsafe { y.set_len(rows * self.outputs) };
        y
    }

    fn run_task<K: Kernel<WIDTH>, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        task: Task,
        scratch: &mut Scratch<WIDTH>,
        out: Output,
    ) {
        let count = task.outputs.div_ceil(WIDTH);
        let Scratch { panels, sums, row } = scratch;
        panels.resize(count * self.inputs, Column::ZERO);
        sums.resize(BLOCK_ROWS * count, Column::ZERO);
        self.pack(task, panels, row);
        for block in (0..task.rows).step_by(BLOCK_ROWS) {
            let first = task.first_row + block;
            let rows = BLOCK_ROWS.min(task.rows - block);
            let x = &self.x[first * self.inputs..(first + rows) * self.inputs];
            for start in (0..self.inputs).step_by(DEPTH) {
                let depth = DEPTH.min(self.inputs - start);
                for (index, panel) in panels.chunks_exact(self.inputs).enumerate() {
                    let panel = &panel[start..start + depth];
                    let mut row = 0;
                    while row < rows {
                        let part = Part {
                            x: &x[row * self.inputs + start..],
                            stride: self.inputs,
                            sums: &mut sums[row * count + index..],
                            columns: count,
                            fresh: start == 0,
                        };
                        // SAFETY: `product` has seen that the machine has what `K` needs.
                        row += unsafe {
                            match rows - row {
                                left if left >= HEIGHT => K::tile::<HEIGHT>(part, panel),
                                left if left >= 4 => K::tile::<4>(part, panel),
                                left if left >= 2 => K::tile::<2>(part, panel),
                                _ => K::tile::<1>(part, panel),
                            }
                        };
                    }
                }
            }
            for (offset, sums) in sums.chunks_exact_mut(count).take(rows).enumerate() {
                let sums = &mut Column::flatten(sums)[..task.outputs];
                let start = (first + offset) * self.outputs + task.first_output;
                apply(sums, task.first_output, start, self.epilogue);
                // SAFETY: `start + task.outputs` lies inside the output, whose size `run` has made sure
                // of, and no other task writes there.
                unsafe {
                    std::ptr::copy_nonoverlapping(sums.as_ptr(), out.0.add(start), sums.len());
                }
            }
        }
    }

    /// Transposes the task's weights into panels `[inputs, WIDTH]`, outputs that do not exist being 0.
    fn pack<const WIDTH: usize>(
        &self,
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
                let row = self.weight.slice(start..start + self.inputs);
                for (column, &value) in panel.iter_mut().zip(row.to_f32(scratch)) {
                    column.0[lane] = value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
