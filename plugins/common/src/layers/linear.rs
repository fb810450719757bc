//! Fully connected layers on mapped or trained weights.

use crate::{
    Result,
    activation::Activation,
    gradients::{Flow, Parameter, activate, note, recording},
    kernels::{
        elements::Elements,
        epilogue::Epilogue,
        linear::linear,
        product::{Left, Right, product_into},
        rows::{add, add_columns, scaled_rows},
    },
    tensor::{from_vec, rows, with_slice},
    weights::Scope,
};
use candle_core::Tensor;
use merv_plugin_api::PluginError;

/// Rows whose outer products are added to the gradient of a weight together. Their packed form stays in the
/// second-level cache.
const ROWS_AT_ONCE: usize = 2048;

/// Quantised weight rows that are converted together in the backward pass.
const CONVERTED_ROWS: usize = 256;

/// `y = x·Wᵀ + b` (`torch.nn.Linear`): weight `[outputs, inputs]`, bias `[outputs]`.
#[derive(Clone)]
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    adapter: Option<Box<LowRank>>,
}

/// A low-rank adapter, which changes a layer's weight by `scale·B·A` (LoRA, arXiv 2106.09685).
#[derive(Clone)]
struct LowRank {
    /// A, `[rank, inputs]`
    down: Linear,
    /// B, `[outputs, rank]`
    up: Linear,
    scale: f32,
}

impl Linear {
    /// Takes `weight` and, if `bias`, `bias` from `scope`.
    pub fn new(inputs: usize, outputs: usize, bias: bool, scope: &Scope<'_>) -> Self {
        Self::from_parts(
            scope.parameter("weight", &[outputs, inputs]),
            bias.then(|| scope.small_parameter("bias", &[outputs])),
        )
    }

    /// Creates a layer from its parameters.
    pub fn from_parts(weight: Parameter, bias: Option<Parameter>) -> Self {
        Self {
            weight,
            bias,
            adapter: None,
        }
    }

    /// Adds a low-rank adapter: `y = x·Wᵀ + b + scale·x·Aᵀ·Bᵀ`. `down` is A, `[rank, inputs]`, and `up` is B,
    /// `[outputs, rank]`.
    #[must_use]
    pub fn adapted(self, down: Parameter, up: Parameter, scale: f32) -> Self {
        let adapter = LowRank {
            down: Self::from_parts(down, None),
            up: Self::from_parts(up, None),
            scale,
        };
        Self {
            adapter: Some(Box::new(adapter)),
            ..self
        }
    }

    /// Returns the width of the input.
    pub fn inputs(&self) -> usize {
        self.weight.columns()
    }

    /// Returns the width of the output.
    pub fn outputs(&self) -> usize {
        self.weight.rows()
    }

    /// # Shapes
    ///
    /// `[.., inputs]` → `[.., outputs]`
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.run(x, Epilogue::default())?;
        let (layer, input) = (self.clone(), x.clone());
        note(
            "a linear layer",
            &[x],
            &y,
            self.is_trained(),
            move |gradient, flow| layer.backward(&input, &gradient, flow),
        );
        self.adapt(x, y, None)
    }

    /// Returns `activation(x·Wᵀ + b)`, computed in one pass.
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if self.adapter.is_some() || recording() {
            // An adapter is added before the activation, and the backward pass needs the input of the
            // activation.
            return activate(&self.forward(x)?, activation);
        }
        self.run(
            x,
            Epilogue {
                activation: Some(activation),
                ..Epilogue::default()
            },
        )
    }

    /// Returns `residual + scale·(x·Wᵀ + b)`, computed in one pass: the end of every branch of a transformer.
    ///
    /// # Errors
    ///
    /// When the last dimension is not `inputs`, or `residual` does not have the shape of the result.
    pub fn forward_added(
        &self,
        x: &Tensor,
        residual: &Tensor,
        scale: Option<&Parameter>,
    ) -> Result<Tensor> {
        if let Some(scale) = scale
            && recording()
            && scale.is_trained()
        {
            // The gradient of the scale needs the unscaled values.
            return scaled_added(&self.forward(x)?, residual, scale);
        }
        let values = scale.map(Parameter::values);
        let values = values.as_ref().map(|values| values.f32s());
        let y = with_slice(residual, |residual| {
            self.run(
                x,
                Epilogue {
                    scale: values.as_deref(),
                    residual: Some(residual),
                    ..Epilogue::default()
                },
            )
        })?;
        let (layer, input, residual_id) = (self.clone(), x.clone(), residual.id());
        let scale_of = scale.cloned();
        let inputs = [x, residual];
        note(
            "a linear layer",
            &inputs,
            &y,
            self.is_trained(),
            move |gradient, flow| {
                match &scale_of {
                    Some(scale) => {
                        let scaled = scaled_rows(&gradient, &scale.values().f32s());
                        layer.backward(&input, &scaled, flow)?;
                    }
                    None => layer.backward(&input, &gradient, flow)?,
                }
                flow.add(residual_id, gradient);
                Ok(())
            },
        );
        self.adapt(x, y, values.as_deref())
    }

    /// Returns `y + layer_scale·scale·x·Aᵀ·Bᵀ` if there is an adapter, else `y`.
    fn adapt(&self, x: &Tensor, y: Tensor, layer_scale: Option<&[f32]>) -> Result<Tensor> {
        let Some(adapter) = &self.adapter else {
            return Ok(y);
        };
        let scale = match layer_scale {
            Some(layer_scale) => layer_scale.iter().map(|s| s * adapter.scale).collect(),
            None => vec![adapter.scale; self.outputs()],
        };
        let scale = Parameter::constant(scale);
        let low = adapter.down.forward(x)?;
        adapter.up.forward_added(&low, &y, Some(&scale))
    }

    fn run(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let (count, width) = rows(x)?;
        let residual = epilogue.residual.map_or(count * outputs, <[f32]>::len);
        if width != inputs || residual != count * outputs {
            return Err(PluginError::invalid(format!(
                "a linear layer of {inputs} inputs and {outputs} outputs received a tensor of shape {:?}",
                x.dims()
            )));
        }
        let y = with_slice(x, |x| Ok(self.product_and(x, epilogue)))?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        from_vec(y, shape)
    }

    fn product_and(&self, x: &[f32], epilogue: Epilogue<'_>) -> Vec<f32> {
        let weight = self.weight.values();
        let bias = self.bias.as_ref().map(Parameter::values);
        let bias = bias.as_ref().map(|bias| bias.f32s());
        let epilogue = Epilogue {
            bias: bias.as_deref(),
            ..epilogue
        };
        linear(
            x,
            weight.elements(),
            self.inputs(),
            self.outputs(),
            epilogue,
            self.weight.precision(),
        )
    }

    /// Returns `x·Wᵀ + b` for whole rows.
    pub(crate) fn product(&self, x: &[f32]) -> Vec<f32> {
        self.product_and(x, Epilogue::default())
    }

    /// Returns whether it is trained.
    pub fn is_trained(&self) -> bool {
        self.weight.is_trained()
    }

    /// The backward pass of the layer without its adapter.
    fn backward(&self, x: &Tensor, gradient: &[f32], flow: &mut Flow) -> Result<()> {
        if self.is_trained() {
            with_slice(x, |x| {
                self.add_gradients(x, gradient);
                Ok(())
            })?;
        }
        flow.update(x.id(), x.elem_count(), |out, added| {
            self.input_gradient(gradient, out, added);
        });
        Ok(())
    }

    /// Adds to the gradients of weight and bias, from the inputs and the gradient of the outputs.
    pub(crate) fn add_gradients(&self, x: &[f32], gradient: &[f32]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let precision = self.weight.precision();
        self.weight.update_gradient(|sum, added| {
            let parts = x
                .chunks(ROWS_AT_ONCE * inputs)
                .zip(gradient.chunks(ROWS_AT_ONCE * outputs));
            for (index, (x, gradient)) in parts.enumerate() {
                let sizes = [outputs, x.len() / inputs, inputs];
                let (left, right) = (Left::Columns(gradient), Right::Rows(Elements::F32(x)));
                product_into(left, right, sizes, sum, added || index > 0, precision);
            }
        });
        if let Some(bias) = &self.bias {
            bias.add_to_gradient(|sum| add_columns(gradient, None, sum));
        }
    }

    /// Computes the gradient of the inputs from that of the outputs, `gradient·W`. Writes it to `out`, or
    /// adds it if `added`.
    pub(crate) fn input_gradient(&self, gradient: &[f32], out: &mut [f32], added: bool) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let rows = out.len().checked_div(inputs).unwrap_or(0);
        let precision = self.weight.precision();
        let weight = self.weight.values();
        let weight = weight.elements();
        if !matches!(weight, Elements::Quantized(..)) {
            let sizes = [rows, outputs, inputs];
            let (left, right) = (Left::Rows(gradient), Right::Rows(weight));
            product_into(left, right, sizes, out, added, precision);
            return;
        }
        // Part of a quantised row cannot be read, so whole rows are converted, some at a time.
        let mut scratch = Vec::new();
        for first in (0..outputs).step_by(CONVERTED_ROWS) {
            let count = CONVERTED_ROWS.min(outputs - first);
            let part: Vec<f32> = gradient
                .chunks_exact(outputs)
                .flat_map(|row| &row[first..first + count])
                .copied()
                .collect();
            let rows_of = weight.slice(first * inputs..(first + count) * inputs);
            let right = Right::Rows(Elements::F32(rows_of.to_f32(&mut scratch)));
            let sizes = [rows, count, inputs];
            let added = added || first > 0;
            product_into(Left::Rows(&part), right, sizes, out, added, precision);
        }
    }
}

/// Returns `residual + scale·y` and notes the gradient of the scale too.
fn scaled_added(y: &Tensor, residual: &Tensor, scale: &Parameter) -> Result<Tensor> {
    let values = scale.values();
    let values = values.f32s();
    let sum = with_slice(y, |y| {
        let mut sum = scaled_rows(y, &values);
        with_slice(residual, |residual| {
            add(&mut sum, residual);
            Ok(())
        })?;
        from_vec(sum, residual.shape())
    })?;
    let (scale, branch, residual_id) = (scale.clone(), y.clone(), residual.id());
    note(
        "a scaled branch",
        &[y, residual],
        &sum,
        true,
        move |gradient, flow| {
            with_slice(&branch, |y| {
                scale.add_to_gradient(|sums| add_columns(&gradient, Some(y), sums));
                Ok(())
            })?;
            flow.add(branch.id(), scaled_rows(&gradient, &scale.values().f32s()));
            flow.add(residual_id, gradient);
            Ok(())
        },
    );
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gradients::Parameters, kernels::numbers::numbers, precision::Precision};
    use merv_plugin_api::{Ranges, StatePart, TensorViewMut, TrainingOptions};

    /// Computes `[rows, inner] · [inner, columns]` with the operands in `precision`.
    fn product(
        precision: Precision,
        [rows, inner, columns]: [usize; 3],
        left: impl Fn(usize, usize) -> f32,
        right: impl Fn(usize, usize) -> f32,
    ) -> Vec<f64> {
        let number = |x: f32| match precision {
            Precision::F32 => f64::from(x),
            Precision::Bf16 => half::bf16::from_f32(x).to_f64(),
        };
        let at = |index: usize| {
            let (row, column) = (index / columns, index % columns);
            let terms = (0..inner).map(|i| number(left(row, i)) * number(right(i, column)));
            terms.sum()
        };
        (0..rows * columns).map(at).collect()
    }

    #[test]
    fn all_three_products_are_in_the_layers_precision() {
        let (rows, inputs, outputs) = (41, 33, 21);
        let (x, w) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
        let gradient = numbers(rows * outputs, 3);
        for precision in [Precision::F32, Precision::Bf16] {
            let assert_near = |what: &str, found: &[f32], expected: Vec<f64>| {
                assert_eq!(found.len(), expected.len(), "{what}");
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (f64::from(*found) - expected).abs();
                    // Rounding the operands changes the result fifty times as much.
                    assert!(error < 2e-5, "{what} in {precision:?}: {found}, {expected}");
                }
            };
            let weight = Parameter::matrix(w.clone(), (outputs, inputs), precision);
            let parameters = Parameters::new(vec![weight.clone()]);
            parameters.begin(&TrainingOptions::new(true)).unwrap();
            let layer = Linear::from_parts(weight, None);

            let sizes = [rows, inputs, outputs];
            let expected = product(
                precision,
                sizes,
                |r, i| x[r * inputs + i],
                |i, o| w[o * inputs + i],
            );
            assert_near("outputs", &layer.product(&x), expected);

            let sizes = [rows, outputs, inputs];
            let mut found = vec![f32::NAN; rows * inputs];
            layer.input_gradient(&gradient, &mut found, false);
            let expected = product(
                precision,
                sizes,
                |r, o| gradient[r * outputs + o],
                |o, i| w[o * inputs + i],
            );
            assert_near("the gradient of inputs", &found, expected);

            let sizes = [outputs, rows, inputs];
            layer.add_gradients(&x, &gradient);
            let mut found = Vec::new();
            let mut take = |_, gradient: TensorViewMut<'_>| {
                found = gradient.view().f32s()?.to_vec();
                Ok(())
            };
            parameters
                .visit(StatePart::GRADIENT, Ranges::All, &mut take)
                .unwrap();
            let expected = product(
                precision,
                sizes,
                |o, r| gradient[r * outputs + o],
                |r, i| x[r * inputs + i],
            );
            assert_near("the gradient of the weight", &found, expected);
        }
    }
}
