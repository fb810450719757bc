//! What happens between layers, with a way back.

use super::{Parameter, note};
use crate::{
    Result,
    activation::Activation,
    kernels::backward,
    tensor::{from_vec, rows, with_slice},
};
use candle_core::{Shape, Tensor};
use merv_plugin_api::PluginError;

/// The same elements in another shape.
///
/// # Errors
///
/// When `shape` has another number of elements.
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

/// Some of the rows of the last dimension: `[.., width]` → `[chosen, width]`.
///
/// # Errors
///
/// When there is no such row.
pub fn choose_rows(x: &Tensor, chosen: impl IntoIterator<Item = usize>) -> Result<Tensor> {
    let (count, width) = rows(x)?;
    let chosen: Vec<usize> = chosen.into_iter().collect();
    if let Some(row) = chosen.iter().find(|&&row| row >= count) {
        return Err(PluginError::invalid(format!(
            "row {row} was chosen of {count}"
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
                // What is not added to begins as zeros.
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

/// A parameter as rows, `repeat` times: `[repeat · rows, width]`.
///
/// # Errors
///
/// When `width` does not divide it.
pub fn repeated(parameter: &Parameter, width: usize, repeat: usize) -> Result<Tensor> {
    let y = {
        let values = parameter.values();
        let values = values.f32s();
        let rows = repeat * values.len() / width.max(1);
        from_vec(values.repeat(repeat), (rows, width))?
    };
    let (trained, parameter) = (parameter.is_trained(), parameter.clone());
    note("an embedding", &[], &y, trained, move |gradient, _| {
        parameter.add_to_gradient(|sums| backward::add_columns(&gradient, None, sums));
        Ok(())
    });
    Ok(y)
}

/// Rows ordered `[outer, inner]` in the order `[inner, outer]`: `[outer · inner, width]` → the same.
///
/// # Errors
///
/// When there are not so many rows.
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

/// Adds one row of `rows_of` to each `repeat` rows of `x`: `[n · repeat, width]`, with `rows_of` of `n`
/// times `width` elements.
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
                backward::add_columns(rows, None, sum);
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

/// `activation(x)`.
///
/// # Errors
///
/// When `x` is not a plain tensor of `f32`.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let y = with_slice(x, |values| {
        from_vec(backward::activate(values, activation), x.shape())
    })?;
    let input = x.clone();
    note(
        "an activation",
        &[x],
        &y,
        false,
        move |mut gradient, flow| {
            with_slice(&input, |x| {
                backward::activation_backward(x, &mut gradient, activation);
                Ok(())
            })?;
            flow.add(input.id(), gradient);
            Ok(())
        },
    );
    Ok(y)
}

/// `activation(gate) · up`, element by element (arXiv 2002.05202).
///
/// # Errors
///
/// When the two are not plain tensors of `f32` of one shape.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        return Err(PluginError::invalid(format!(
            "a gate of {:?} was given {:?}",
            gate.shape(),
            up.shape()
        )));
    }
    let y = with_slice(gate, |g| {
        with_slice(up, |u| {
            from_vec(backward::gated(g, u, activation), gate.shape())
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
            let of_up = with_slice(&gate, |g| {
                with_slice(&up, |u| {
                    Ok(backward::gated_backward(g, u, &mut gradient, activation))
                })
            })?;
            flow.add(gate.id(), gradient);
            flow.add(up.id(), of_up);
            Ok(())
        },
    );
    Ok(y)
}
