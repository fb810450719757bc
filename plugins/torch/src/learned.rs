//! The parameters of a model, their gradients, and AdamW's moments (arXiv 1711.05101).

use crate::{
    failure::{Failure, Result},
    tensor::{copied_as, shape, size, sizes},
};
use merv_plugin_api::{
    AdamWStep, DType, Device, ParameterInfo, ParameterRange, PluginError, Ranges, StatePart,
    Stream, TakeTensor, TensorView, TensorViewMut, VisitTensor,
};
use tch::{Kind, Tensor, no_grad};

/// A tensor of the model, with its upstream name.
pub struct Parameter {
    pub info: ParameterInfo,
    pub weights: Tensor,
}

/// What a trained parameter has beside its weights.
struct State {
    gradient: Tensor,
    moments: [Tensor; 2],
}

/// All parameters of a model.
pub struct Learned {
    parameters: Vec<Parameter>,
    /// `None` until training has begun, and nothing in it if the parameters are frozen.
    training: Option<Vec<State>>,
}

/// Some elements of a parameter.
struct Part {
    parameter: usize,
    start: usize,
    length: usize,
}

impl Learned {
    pub fn new(parameters: Vec<Parameter>) -> Self {
        Self {
            parameters,
            training: None,
        }
    }

    /// Makes the parameters changeable, or leaves them frozen.
    pub fn begin(&mut self, trainable: bool) -> Result<()> {
        match (&self.training, trainable) {
            (Some(states), false) if !states.is_empty() => {
                let message = "the parameters are trained already, and cannot be frozen any more";
                return Err(PluginError::invalid(message).into());
            }
            (Some(states), true) if !states.is_empty() => return Ok(()),
            _ => {}
        }
        let mut states = Vec::new();
        if trainable {
            for parameter in &self.parameters {
                let zeros = || parameter.weights.f_zeros_like();
                states.push(State {
                    gradient: zeros()?,
                    moments: [zeros()?, zeros()?],
                });
            }
            for parameter in &self.parameters {
                let _ = parameter.weights.f_set_requires_grad(true)?;
            }
        }
        self.training = Some(states);
        Ok(())
    }

    fn states(&self) -> Result<&[State], PluginError> {
        let states = self.training.as_deref();
        states.ok_or_else(|| PluginError::invalid("training has not begun"))
    }

    /// Returns whether the parameters are trained.
    pub fn is_trained(&self) -> Result<bool, PluginError> {
        Ok(!self.states()?.is_empty())
    }

    /// Returns the trained parameters.
    pub fn trained(&self) -> Result<&[Parameter], PluginError> {
        Ok(match self.is_trained()? {
            true => &self.parameters,
            false => &[],
        })
    }

    /// Adds the gradients of `sum`, a number, to those of the trained parameters, and returns its gradient with respect
    /// to `input`.
    pub fn backward(&self, sum: &Tensor, input: Option<&Tensor>) -> Result<Option<Tensor>> {
        let trained = self.trained()?.iter().map(|parameter| &parameter.weights);
        let of: Vec<&Tensor> = trained.chain(input).collect();
        if of.is_empty() {
            return Ok(None);
        }
        let mut gradients = Tensor::f_run_backward(&[sum], &of, false, false)?;
        let of_input = input.and_then(|_| gradients.pop());
        no_grad(|| {
            for (state, gradient) in self.states()?.iter().zip(gradients) {
                // A parameter that the computation does not use has no gradient.
                if gradient.defined() {
                    let _ = state.gradient.shallow_clone().f_add_(&gradient)?;
                }
            }
            Ok(of_input)
        })
    }

    /// Adds `gradient [length, width]` to the rows `ids` of a parameter's gradient.
    pub fn add_rows(&self, parameter: usize, ids: &Tensor, gradient: &Tensor) -> Result<()> {
        if let Some(state) = self.states()?.get(parameter) {
            let mut table = state.gradient.shallow_clone();
            let _ = table.f_index_add_(0, ids, gradient)?;
        }
        Ok(())
    }

    fn tensor(&self, parameter: usize, part: StatePart) -> Result<Tensor> {
        let state = self.states()?.get(parameter);
        let parameter = self.parameters.get(parameter);
        let (Some(state), Some(parameter)) = (state, parameter) else {
            return Err(PluginError::invalid("no such parameter").into());
        };
        Ok(match part {
            // The result shares the memory, but it is no part of a graph.
            StatePart::WEIGHTS => parameter.weights.f_detach()?,
            StatePart::GRADIENT => state.gradient.shallow_clone(),
            StatePart::FIRST_MOMENT => state.moments[0].shallow_clone(),
            StatePart::SECOND_MOMENT => state.moments[1].shallow_clone(),
            other => return Err(PluginError::unsupported(other).into()),
        })
    }

    fn parts(&self, ranges: Ranges<'_>) -> Result<Vec<Part>, PluginError> {
        let parameters = self.trained()?;
        let ranges = match ranges {
            Ranges::All => {
                let all = parameters
                    .iter()
                    .enumerate()
                    .map(|(index, parameter)| Part {
                        parameter: index,
                        start: 0,
                        length: parameter.info.elements(),
                    });
                return Ok(all.collect());
            }
            Ranges::Only(ranges) => ranges,
        };
        let parts = ranges.iter().map(|range| {
            let parameter = range.parameter as usize;
            let elements = parameters.get(parameter).map(|known| known.info.elements());
            let start = usize::try_from(range.start).ok();
            let end = usize::try_from(range.end).ok();
            match (elements, start, end) {
                (Some(elements), Some(start), Some(end)) if start <= end && end <= elements => {
                    Ok(Part {
                        parameter,
                        start,
                        length: end - start,
                    })
                }
                _ => Err(PluginError::invalid(format!("no such elements: {range:?}"))),
            }
        });
        parts.collect()
    }

    /// Returns the elements of a part as a flat tensor that shares the memory.
    fn flat(&self, part: &Part, what: StatePart) -> Result<Tensor> {
        let flat = self.tensor(part.parameter, what)?.f_view([-1])?;
        Ok(flat.f_narrow(0, size(part.start), size(part.length))?)
    }

    pub fn visit(
        &self,
        what: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<()> {
        let whole = matches!(ranges, Ranges::All);
        for part in self.parts(ranges)? {
            let tensor = match whole {
                true => self.tensor(part.parameter, what)?,
                false => self.flat(&part, what)?,
            };
            let (data, shape) = (tensor.data_ptr().cast(), shape(&tensor));
            // SAFETY: a parameter and a range of it are contiguous `f32` in main memory, and the caller holds the only
            // lock on it.
            let view = unsafe {
                TensorViewMut::from_raw(data, DType::F32, Device::CPU, &shape, Stream::COMPLETE)
            };
            visit(u32::try_from(part.parameter).unwrap_or(u32::MAX), view?)?;
        }
        Ok(())
    }

    pub fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64> {
        let mut sum = 0.0;
        for part in self.parts(ranges)? {
            let gradient = self.flat(&part, StatePart::GRADIENT)?;
            let squares = gradient.f_to_kind(Kind::Double)?.f_square()?;
            sum += squares.f_sum(Kind::Double)?.f_double_value(&[])?;
        }
        Ok(sum)
    }

    pub fn clear_gradients(&self) -> Result<()> {
        for state in self.states()? {
            let _ = state.gradient.shallow_clone().f_zero_()?;
        }
        Ok(())
    }

    pub fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<()> {
        check(step)?;
        let parts = self.parts(ranges)?;
        no_grad(|| parts.iter().try_for_each(|part| self.step(step, part)))
    }

    fn step(&self, step: &AdamWStep, part: &Part) -> Result<()> {
        let gradient = self.flat(part, StatePart::GRADIENT)?;
        let gradient = gradient.f_mul_scalar(step.gradient_scale)?;
        let mut weights = self.flat(part, StatePart::WEIGHTS)?;
        let mut first = self.flat(part, StatePart::FIRST_MOMENT)?;
        let mut second = self.flat(part, StatePart::SECOND_MOMENT)?;
        let decays = self
            .trained()?
            .get(part.parameter)
            .is_some_and(|known| known.info.shape.len() > 1 && !known.info.name.ends_with("bias"));
        if decays {
            let _ = weights.f_mul_scalar_(1.0 - step.learning_rate * step.weight_decay)?;
        }
        let _ = first.f_mul_scalar_(step.beta1)?;
        let _ = first.f_add_(&gradient.f_mul_scalar(1.0 - step.beta1)?)?;
        let _ = second.f_mul_scalar_(step.beta2)?;
        let _ = second.f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - step.beta2)?)?;
        let t = i32::try_from(step.step).unwrap_or(i32::MAX);
        let mean = first.f_div_scalar(1.0 - step.beta1.powi(t))?;
        let square = second.f_div_scalar(1.0 - step.beta2.powi(t))?;
        let change = mean.f_div(&square.f_sqrt()?.f_add_scalar(step.epsilon)?)?;
        let _ = weights.f_sub_(&change.f_mul_scalar(step.learning_rate)?)?;
        Ok(())
    }

    pub fn export(
        &self,
        what: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<()> {
        let whole = matches!(ranges, Ranges::All);
        for part in self.parts(ranges)? {
            let tensor = match whole {
                true => self.tensor(part.parameter, what)?,
                false => self.flat(&part, what)?,
            };
            let (data, shape) = (tensor.data_ptr().cast_const().cast(), shape(&tensor));
            // SAFETY: a parameter and a range of it are contiguous `f32` in main memory, and the caller holds the only
            // lock on it.
            let view = unsafe {
                TensorView::from_raw(data, DType::F32, Device::CPU, &shape, Stream::COMPLETE)
            };
            take(u32::try_from(part.parameter).unwrap_or(u32::MAX), view?)?;
        }
        Ok(())
    }

    pub fn import(
        &self,
        what: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<()> {
        let parts = self.parts(Ranges::Only(&[range]))?;
        for part in &parts {
            let elements: usize = values.shape().iter().product();
            let shape = match elements == part.length {
                true => values.shape().to_vec(),
                false => vec![part.length],
            };
            let values = copied_as("values", values, &shape)?;
            let values = values.f_view(sizes(&[part.length]).as_slice())?;
            no_grad(|| {
                self.flat(part, what)?
                    .f_copy_(&values)
                    .map_err(Failure::from)
            })?;
        }
        Ok(())
    }
}

fn check(step: &AdamWStep) -> Result<(), PluginError> {
    let numbers = [
        step.learning_rate,
        step.beta1,
        step.beta2,
        step.epsilon,
        step.weight_decay,
        step.gradient_scale,
    ];
    let is_rate = |beta: f64| (0.0..1.0).contains(&beta);
    let valid = step.step > 0
        && numbers.iter().all(|number| number.is_finite())
        && is_rate(step.beta1)
        && is_rate(step.beta2)
        && step.epsilon >= 0.0;
    match valid {
        true => Ok(()),
        false => Err(PluginError::invalid(format!("no step of AdamW: {step:?}"))),
    }
}
