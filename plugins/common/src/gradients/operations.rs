//! Operations between layers, with their backward passes.

use super::{Parameter, note};
use crate::{
    Result,
    activation::Activation,
    kernels::{activations, rows::add_columns},
    tensor::{from_vec, rows, with_slice},
};
use candle_core::{Shape, Tensor};
use merv_plugin_api::PluginError;

/// Returns the same elements in another shape.
///
/// # Errors
///
/// When `shape` has a different number of elements.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let y = x.reshape(shape.into())?;
    let id = x.id();
    note(
        "a change of shape",
        &[x],
        &y,
        false,
        move |gradient, flow| {
            flow.add(id, gradient);
            Ok(())
        },
    );
    Ok(y)
}

/// Returns the `chosen` rows: `[.., width]` → `[chosen, width]`.
///
/// # Errors
///
/// When `x` does not have one of the rows.
pub fn choose_rows(x: &Tensor, chosen: impl IntoIterator<Item = usize>) -> Result<Tensor> {
    let (count, width) = rows(x)?;
    let chosen: Vec<usize> = chosen.into_iter().collect();
    if let Some(row) = chosen.iter().find(|&&row| row >= count) {
        return Err(PluginError::invalid(format!(
            "expected a row below {count}, found {row}"
        )));
    }
    let y = with_slice(x, |x| {
        let rows = chosen.iter().map(|row| &x[row * width..][..width]);
        from_vec(rows.flatten().copied().collect(), (chosen.len(), width))
    })?;
    let id = x.id();
    note(
        "a choice of rows",
        &[x],
        &y,
        false,
        move |gradient, flow| {
            flow.update(id, count * width, |out, _| {
                // The output is zeros, or the gradient so far.
                for (row, gradient) in chosen.iter().zip(gradient.chunks_exact(width.max(1))) {
                    let out = &mut out[row * width..][..width];
                    out.iter_mut().zip(gradient).for_each(|(o, g)| *o += g);
                }
            });
            Ok(())
        },
    );
    Ok(y)
}

/// Returns the rows of a parameter `repeat` times: `[repeat · rows, width]`.
///
/// # Errors
///
/// When `width` does not divide the number of elements.
pub fn repeated(parameter: &Parameter, width: usize, repeat: usize) -> Result<Tensor> {
    let y = {
        let values = parameter.values();
        let values = values.f32s();
        let rows = repeat * values.len() / width.max(1);
        from_vec(values.repeat(repeat), (rows, width))?
    };
    let (trained, parameter) = (parameter.is_trained(), parameter.clone());
    note("an embedding", &[], &y, trained, move |gradient, _| {
        parameter.add_to_gradient(|sums| add_columns(&gradient, None, sums));
        Ok(())
    });
    Ok(y)
}

/// Reorders rows from `[outer, inner]` to `[inner, outer]`: `[outer · inner, width]` → the same shape.
///
/// # Errors
///
/// When `x` does not have `outer · inner` rows.
pub fn swap_rows(x: &Tensor, outer: usize, inner: usize) -> Result<Tensor> {
    let (count, width) = rows(x)?;
    let shape = x.reshape((outer, inner, width))?;
    let y = shape
        .transpose(0, 1)?
        .contiguous()?
        .reshape((count, width))?;
    let id = x.id();
    note(
        "a change of order",
        &[x],
        &y,
        false,
        move |gradient, flow| {
            let mut back = vec![0.0; gradient.len()];
            for (index, row) in gradient.chunks_exact(width).enumerate() {
                let at = index % outer * inner + index / outer;
                back[at * width..][..width].copy_from_slice(row);
            }
            flow.add(id, back);
            Ok(())
        },
    );
    Ok(y)
}

/// Adds one row of `rows_of` to every `repeat` rows of `x`: with `rows_of` of `[n, width]`, `x` is
/// `[n · repeat, width]`.
///
/// # Errors
///
/// When the sizes do not fit.
pub fn add_repeated(x: &Tensor, rows_of: &Parameter, repeat: usize) -> Result<Tensor> {
    let (_, width) = rows(x)?;
    let values = rows_of.values();
    let values = values.f32s();
    let y = with_slice(x, |x| {
        let mut y = x.to_vec();
        for (rows, add) in y
            .chunks_exact_mut((repeat * width).max(1))
            .zip(values.chunks_exact(width))
        {
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(add).for_each(|(y, a)| *y += a);
            }
        }
        from_vec(y, x_shape(x.len(), width))
    })?
    .reshape(x.shape())?;
    let (id, parameter) = (x.id(), rows_of.clone());
    let trained = rows_of.is_trained();
    note("an embedding", &[x], &y, trained, move |gradient, flow| {
        parameter.add_to_gradient(|sums| {
            let groups = gradient.chunks_exact((repeat * width).max(1));
            for (sum, rows) in sums.chunks_exact_mut(width).zip(groups) {
                add_columns(rows, None, sum);
            }
        });
        flow.add(id, gradient);
        Ok(())
    });
    Ok(y)
}

fn x_shape(elements: usize, width: usize) -> (usize, usize) {
    (elements / width.max(1), width)
}

/// Returns `activation(x)`.
///
/// # Errors
///
/// When `x` is not a contiguous tensor of `f32` in main memory.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let y = with_slice(x, |values| {
        from_vec(activations::activate(values, activation), x.shape())
    })?;
    let input = x.clone();
    note(
        "an activation",
        &[x],
        &y,
        false,
        move |mut gradient, flow| {
            with_slice(&input, |x| {
                activations::activation_backward(x, &mut gradient, activation);
                Ok(())
            })?;
            flow.add(input.id(), gradient);
            Ok(())
        },
    );
    Ok(y)
}

/// Returns `activation(gate) · up`, element by element (arXiv 2002.05202).
///
/// # Errors
///
/// When the tensors have different shapes, or one is not a contiguous tensor of `f32` in main memory.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        return Err(PluginError::invalid(format!(
            "expected a tensor of the shape of the gate, {:?}, found {:?}",
            gate.shape(),
            up.shape()
        )));
    }
    let y = with_slice(gate, |g| {
        with_slice(up, |u| {
            from_vec(activations::gated(g, u, activation), gate.shape())
        })
    })?;
    let inputs = [gate.clone(), up.clone()];
    note(
        "a gate",
        &[gate, up],
        &y,
        false,
        move |mut gradient, flow| {
            let [gate, up] = inputs;
            let up_gradient = with_slice(&gate, |g| {
                with_slice(&up, |u| {
                    Ok(activations::gated_backward(g, u, &mut gradient, activation))
                })
            })?;
            flow.add(gate.id(), gradient);
            flow.add(up.id(), up_gradient);
            Ok(())
        },
    );
    Ok(y)
}
