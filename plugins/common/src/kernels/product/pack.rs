//! The weights of a task, converted and packed for its tiles.

use super::{
    operands::{Form, Product},
    tasks::Task,
};
use crate::kernels::{elements::Elements, pairs, tile::Column};

impl Product<'_> {
    /// Copies the task's part of weights that are stored with one row for each input into panels
    /// `[steps, WIDTH]`. Outputs that do not exist are 0.
    pub(super) fn pack_rows<const WIDTH: usize>(
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

    /// Transposes the task's weights into panels `[steps, WIDTH]`. Outputs that do not exist are 0.
    pub(super) fn pack_columns<const WIDTH: usize>(
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
