//! The tasks of a product, which run on different threads.

use crate::kernels::tile::PACKED_STEP;

/// Outputs of one task. Its packed weights stay in the second-level cache.
const TASK_OUTPUTS: usize = 64;

/// Rows of `x` that are multiplied with a task's panels together. They stay in the second-level cache with
/// them.
pub(super) const BLOCK_ROWS: usize = PACKED_STEP;

/// The smallest number of tasks for each thread, if there are enough rows. With several tasks, a slow thread
/// does not keep the others waiting.
const TASKS_PER_THREAD: usize = 4;

/// The smallest number of rows of a task. Fewer rows are not worth packing the weights again.
const TASK_ROWS: usize = 4 * BLOCK_ROWS;

/// The part of the output that one task computes.
#[derive(Clone, Copy)]
pub(super) struct Task {
    pub first_row: usize,
    pub rows: usize,
    pub first_output: usize,
    pub outputs: usize,
}

/// Divides an output into tasks: by columns, and also by rows if there are few columns and many rows.
pub(super) fn divide(rows: usize, outputs: usize, threads: usize) -> Vec<Task> {
    let columns = outputs.div_ceil(TASK_OUTPUTS);
    let needed = (TASKS_PER_THREAD * threads).div_ceil(columns.max(1));
    let parts = needed.min(rows / TASK_ROWS).max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_element_once() {
        for (rows, outputs, threads) in [(5, 1, 1), (97, 64, 16), (784, 65, 2), (3137, 768, 64)] {
            let mut written = vec![0u8; rows * outputs];
            let tasks = divide(rows, outputs, threads);
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
