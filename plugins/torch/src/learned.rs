//! The parameters of a model, their gradients, and AdamW's moments (arXiv 1711.05101).

use crate::{
    failure::Result,
    tensor::{DEFAULT_STREAM, input, shape, size},
};
use merv_architectures::training;
use merv_plugin_api::{
    AdamWStep, DType, Device, ParameterInfo, ParameterRange, PluginError, Ranges, ReadyGradients,
    StatePart, Stream, TakeTensor, TensorView, TensorViewMut, TrainingOptions, VisitTensor,
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};
use tch::{Kind, Tensor, no_grad_guard};

/// A tensor of the model, with its upstream name.
pub struct Parameter {
    pub info: ParameterInfo,
    /// Whether the computation uses it. If not, it does not change in training.
    pub is_used: bool,
    /// What the layers compute with.
    pub weights: Tensor,
}

/// What a trained parameter has beside its weights, in `f32`.
struct State {
    /// The weights that are learned. If the layers compute in `f32`, it is the same memory.
    master: Tensor,
    gradient: Tensor,
    moments: [Tensor; 2],
}

struct Training {
    options: TrainingOptions,
    /// One for each parameter, or none if the parameters are frozen.
    states: Vec<State>,
}

/// All parameters of a model, on one device.
pub struct Learned {
    parameters: Vec<Parameter>,
    device: Device,
    /// `None` until training has begun.
    training: Option<Training>,
    /// Held by who adds to gradients: backward passes may run at the same time.
    adding: Mutex<()>,
}

/// Some elements of a parameter.
struct Part {
    parameter: usize,
    elements: Range<usize>,
}

impl Learned {
    pub fn new(parameters: Vec<Parameter>, device: Device) -> Self {
        Self {
            parameters,
            device,
            training: None,
            adding: Mutex::new(()),
        }
    }

    /// Makes the parameters changeable, or leaves them frozen.
    pub fn begin(&mut self, options: &TrainingOptions) -> Result<()> {
        training::check_options(options)?;
        let old = self.training.take();
        let mut states = old.map(|old| old.states).unwrap_or_default();
        if options.trainable && states.is_empty() {
            for parameter in &self.parameters {
                let _ = parameter.weights.f_set_requires_grad(true)?;
                let _guard = no_grad_guard();
                let master = parameter.weights.f_detach()?.f_to_kind(Kind::Float)?;
                let zeros = || master.f_zeros_like();
                states.push(State {
                    gradient: zeros()?,
                    moments: [zeros()?, zeros()?],
                    master,
                });
            }
        }
        let refused = !options.trainable && !states.is_empty();
        let mut options = options.clone();
        options.trainable |= refused;
        self.training = Some(Training { options, states });
        match refused {
            true => Err(training::cannot_freeze().into()),
            false => Ok(()),
        }
    }

    fn training(&self) -> Result<&Training, PluginError> {
        self.training.as_ref().ok_or_else(training::not_begun)
    }

    /// Returns how the model is trained.
    pub fn options(&self) -> Result<&TrainingOptions, PluginError> {
        Ok(&self.training()?.options)
    }

    /// Returns the trained parameters: all or none.
    pub fn trained(&self) -> Result<&[Parameter], PluginError> {
        Ok(match self.training()?.states.is_empty() {
            true => &[],
            false => &self.parameters,
        })
    }

    /// Returns a parameter by its place among all.
    pub fn parameter(&self, place: usize) -> Option<&Tensor> {
        self.parameters
            .get(place)
            .map(|parameter| &parameter.weights)
    }

    /// Tells the host that the gradients of all trained parameters are ready.
    pub fn all_ready(&self, ready: &mut ReadyGradients<'_>) -> Result<()> {
        let places: Vec<u32> = (0..).zip(self.trained()?).map(|(place, _)| place).collect();
        Ok(training::tell(ready, &places)?)
    }

    /// Propagates the gradient of `output`: adds to the gradients of the trained parameters in `places`, and returns those
    /// of `inputs`. An input that the output does not depend on has an undefined one.
    pub fn backward(
        &self,
        output: &Tensor,
        gradient: &Tensor,
        places: Range<usize>,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>> {
        let training = self.training()?;
        let places = match training.states.is_empty() {
            true => 0..0,
            false => places,
        };
        let parameters = &self.parameters[places.clone()];
        let mut of: Vec<&Tensor> = parameters.iter().map(|known| &known.weights).collect();
        of.extend(inputs);
        if of.is_empty() || !output.requires_grad() {
            return Ok(inputs.iter().map(|_| Tensor::new()).collect());
        }
        // The gradient of this sum with respect to the output is `gradient`.
        let sum = output.f_mul(gradient)?.f_sum(None)?;
        let mut gradients = Tensor::f_run_backward(&[sum], &of, false, false)?;
        let of_inputs = gradients.split_off(parameters.len());
        let _guard = no_grad_guard();
        let _turn = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        for (state, gradient) in training.states[places].iter().zip(gradients) {
            // A parameter that the output does not depend on has no gradient.
            if gradient.defined() {
                let _ = state.gradient.shallow_clone().f_add_(&gradient)?;
            }
        }
        Ok(of_inputs)
    }

    /// Adds `gradient [length, width]` to the rows `ids` of a parameter's gradient.
    pub fn add_rows(&self, place: usize, ids: &Tensor, gradient: &Tensor) -> Result<()> {
        if let Some(state) = self.training()?.states.get(place) {
            let _guard = no_grad_guard();
            let _turn = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = state
                .gradient
                .shallow_clone()
                .f_index_add_(0, ids, gradient)?;
        }
        Ok(())
    }

    fn tensor(&self, place: usize, part: StatePart) -> Result<Tensor> {
        let state = self.training()?.states.get(place);
        let state = state.ok_or_else(|| PluginError::invalid("no such parameter"))?;
        Ok(match part {
            StatePart::WEIGHTS => state.master.shallow_clone(),
            StatePart::GRADIENT => state.gradient.shallow_clone(),
            StatePart::FIRST_MOMENT => state.moments[0].shallow_clone(),
            StatePart::SECOND_MOMENT => state.moments[1].shallow_clone(),
            other => return Err(PluginError::unsupported(other).into()),
        })
    }

    /// Makes the layers compute with the weights that were learned.
    fn use_learned(&self, place: usize) -> Result<()> {
        let state = self.training()?.states.get(place);
        if let (Some(state), Some(weights)) = (state, self.parameter(place))
            && weights.kind() != Kind::Float
        {
            let _guard = no_grad_guard();
            weights.f_detach()?.f_copy_(&state.master)?;
        }
        Ok(())
    }

    fn part(&self, range: ParameterRange) -> Result<Part, PluginError> {
        let trained = self.trained()?;
        let (_, elements) = range.find(trained, |known| {
            (known.info.name.as_str(), known.info.elements())
        })?;
        Ok(Part {
            parameter: range.parameter as usize,
            elements,
        })
    }

    fn parts(&self, ranges: Ranges<'_>) -> Result<Vec<Part>, PluginError> {
        match ranges {
            Ranges::All => {
                let all = self.trained()?.iter().enumerate();
                let whole = |(parameter, known): (usize, &Parameter)| Part {
                    parameter,
                    elements: 0..known.info.elements(),
                };
                Ok(all.map(whole).collect())
            }
            Ranges::Only(ranges) => ranges.iter().map(|&range| self.part(range)).collect(),
        }
    }

    /// Returns the elements of a part as a flat tensor that shares the memory.
    fn flat(&self, part: &Part, what: StatePart) -> Result<Tensor> {
        let flat = self.tensor(part.parameter, what)?.f_view([-1])?;
        Ok(flat.f_narrow(0, size(part.elements.start), size(part.elements.len()))?)
    }

    /// Visits one part of the state. Gradients may be visited while backward passes add to others; whoever visits anything
    /// else keeps computations out.
    pub fn visit(
        &self,
        what: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<()> {
        let whole = matches!(ranges, Ranges::All);
        let _turn = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        for part in self.parts(ranges)? {
            let tensor = match whole {
                true => self.tensor(part.parameter, what)?,
                false => self.flat(&part, what)?,
            };
            let (data, shape) = (tensor.data_ptr().cast(), shape(&tensor));
            // SAFETY: a parameter and a range of it are contiguous `f32` on the device. Nothing else reads or writes them
            // meanwhile: gradients are changed in turn, and for the rest the caller holds the only lock.
            let view = unsafe {
                TensorViewMut::from_raw(data, DType::F32, self.device, &shape, self.stream())
            };
            visit(u32::try_from(part.parameter).unwrap_or(u32::MAX), view?)?;
            if what == StatePart::WEIGHTS {
                self.use_learned(part.parameter)?;
            }
        }
        Ok(())
    }

    fn stream(&self) -> Stream {
        match self.device {
            Device::CPU => Stream::COMPLETE,
            _ => DEFAULT_STREAM,
        }
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
        for state in &self.training()?.states {
            let _ = state.gradient.shallow_clone().f_zero_()?;
        }
        Ok(())
    }

    pub fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<()> {
        let parts = self.parts(ranges)?;
        step.check()?;
        let _guard = no_grad_guard();
        parts.iter().try_for_each(|part| {
            self.step(step, part)?;
            self.use_learned(part.parameter)
        })
    }

    fn step(&self, step: &AdamWStep, part: &Part) -> Result<()> {
        let gradient = self.flat(part, StatePart::GRADIENT)?;
        let gradient = gradient.f_mul_scalar(step.gradient_scale)?;
        let mut weights = self.flat(part, StatePart::WEIGHTS)?;
        let mut first = self.flat(part, StatePart::FIRST_MOMENT)?;
        let mut second = self.flat(part, StatePart::SECOND_MOMENT)?;
        let Parameter { info, is_used, .. } = &self.trained()?[part.parameter];
        if !is_used {
            return Ok(());
        }
        if training::decays(&info.name, &info.shape) {
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

    /// Passes on tensors in main memory.
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
            let tensor = tensor.f_to(tch::Device::Cpu)?;
            let (data, shape) = (tensor.data_ptr().cast_const().cast(), shape(&tensor));
            // SAFETY: the tensor is contiguous `f32` in main memory, and nothing changes it meanwhile.
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
        let part = self.part(range)?;
        let known = &self.trained()?[part.parameter].info.name;
        let found = values.shape().iter().product();
        training::same_length(known, part.elements.len(), found)?;
        let values = input(values, self.device)?.f_view([-1])?;
        let _guard = no_grad_guard();
        self.flat(&part, what)?.f_copy_(&values)?;
        match what {
            StatePart::WEIGHTS => self.use_learned(part.parameter),
            _ => Ok(()),
        }
    }
}
