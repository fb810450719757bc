//! The parameter of the encoder: a factor for each column of the features. From the beginning of training on, all of its
//! state is on the device.

use crate::memory;
use merv_plugin_api::{
    AdamWStep, DType, Device, ParameterInfo, ParameterRange, PluginError, Ranges, StatePart,
    TakeTensor, TensorBuf, TensorView, TensorViewMut, TrainingOptions, VisitTensor,
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

const NAME: &str = "scale.weight";

pub struct Scale {
    device: Device,
    shape: [usize; 1],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    options: Option<TrainingOptions>,
    parts: BTreeMap<StatePart, Values>,
}

enum Values {
    Main(Vec<f32>),
    Device(TensorBuf),
}

impl Values {
    fn new(values: Vec<f32>, device: Device) -> Result<Self, PluginError> {
        if device.is_main_memory() {
            return Ok(Self::Main(values));
        }
        let tensor = memory::allocate(device, DType::F32, &[values.len()])?;
        let mut stored = Self::Device(tensor);
        stored.set(&values)?;
        Ok(stored)
    }

    fn get(&self) -> Result<Vec<f32>, PluginError> {
        match self {
            Self::Main(values) => Ok(values.clone()),
            Self::Device(tensor) => memory::input(&tensor.view()),
        }
    }

    fn set(&mut self, new: &[f32]) -> Result<(), PluginError> {
        match self {
            Self::Main(values) => values.copy_from_slice(new),
            Self::Device(tensor) => memory::store(new, &tensor.view())?,
        }
        Ok(())
    }
}

impl State {
    fn values(&mut self, part: StatePart) -> Result<&mut Values, PluginError> {
        self.parts
            .get_mut(&part)
            .ok_or_else(|| PluginError::unsupported(part))
    }

    fn is_trained(&self) -> Result<bool, PluginError> {
        match &self.options {
            Some(options) => Ok(options.trainable),
            None => Err(PluginError::invalid("training has not begun")),
        }
    }
}

impl Scale {
    pub fn new(columns: usize, device: Device) -> Self {
        Self {
            device,
            shape: [columns],
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The factors.
    pub fn factors(&self) -> Result<Vec<f32>, PluginError> {
        match self.lock().parts.get(&StatePart::WEIGHTS) {
            Some(weights) => weights.get(),
            None => Ok(vec![1.0; self.shape[0]]),
        }
    }

    pub fn begin(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        let mut state = self.lock();
        for (part, value) in [
            (StatePart::WEIGHTS, 1.0),
            (StatePart::GRADIENT, 0.0),
            (StatePart::FIRST_MOMENT, 0.0),
            (StatePart::SECOND_MOMENT, 0.0),
        ] {
            let values = Values::new(vec![value; self.shape[0]], self.device)?;
            state.parts.entry(part).or_insert(values);
        }
        state.options = Some(options.clone());
        Ok(())
    }

    pub fn is_trained(&self) -> Result<bool, PluginError> {
        self.lock().is_trained()
    }

    pub fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        Ok(match self.is_trained()? {
            true => vec![ParameterInfo::new(NAME, self.shape)],
            false => Vec::new(),
        })
    }

    /// Changes one part of the state.
    pub fn change(
        &self,
        part: StatePart,
        change: impl FnOnce(&mut [f32]),
    ) -> Result<(), PluginError> {
        let mut state = self.lock();
        let values = state.values(part)?;
        let mut changed = values.get()?;
        change(&mut changed);
        values.set(&changed)
    }

    /// Shows the elements, where they are.
    pub fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        let all = self.elements(ranges)?;
        let mut state = self.lock();
        for elements in all {
            let shape = [elements.len()];
            match state.values(part)? {
                Values::Main(values) => {
                    visit(0, TensorViewMut::new(&mut values[elements], &shape)?)?;
                }
                Values::Device(tensor) if shape == self.shape => {
                    let view = tensor.view();
                    // SAFETY: the plugin accesses the tensor behind this lock only.
                    let view = unsafe {
                        let data = view.as_ptr().cast_mut();
                        TensorViewMut::from_raw(
                            data,
                            DType::F32,
                            self.device,
                            &shape,
                            view.stream(),
                        )
                    };
                    visit(0, view?)?;
                }
                // The addresses of the device cannot be calculated with.
                Values::Device(_) => {
                    return Err(PluginError::unsupported("parts of a tensor on the device"));
                }
            }
        }
        Ok(())
    }

    fn elements(&self, ranges: Ranges<'_>) -> Result<Vec<Range<usize>>, PluginError> {
        let parameters = self.parameters()?;
        match ranges {
            Ranges::All => Ok(parameters.iter().map(|info| 0..info.elements()).collect()),
            Ranges::Only(list) => {
                let found = list
                    .iter()
                    .map(|range| range.find(&parameters, |info| (&info.name, info.elements())));
                found.map(|found| Ok(found?.1)).collect()
            }
        }
    }

    pub fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        let elements = self.elements(ranges)?;
        let gradient = self.lock().values(StatePart::GRADIENT)?.get()?;
        let chosen = elements.into_iter().flat_map(|range| &gradient[range]);
        Ok(chosen.map(|x| f64::from(*x).powi(2)).sum())
    }

    pub fn clear_gradients(&self) -> Result<(), PluginError> {
        self.change(StatePart::GRADIENT, |gradient| gradient.fill(0.0))
    }

    pub fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        step.check()?;
        let elements = self.elements(ranges)?;
        let gradient = self.lock().values(StatePart::GRADIENT)?.get()?;
        let t = step.step as f64;
        for index in elements.into_iter().flatten() {
            let g = f64::from(gradient[index]) * step.gradient_scale;
            let moment = |part, beta: f64, new: f64| {
                let mut next = 0.0;
                self.change(part, |values| {
                    next = beta * f64::from(values[index]) + (1.0 - beta) * new;
                    values[index] = next as f32;
                })?;
                Ok::<_, PluginError>(next / (1.0 - beta.powf(t)))
            };
            let mean = moment(StatePart::FIRST_MOMENT, step.beta1, g)?;
            let square = moment(StatePart::SECOND_MOMENT, step.beta2, g * g)?;
            // A vector does not decay.
            let change = step.learning_rate * mean / (square.sqrt() + step.epsilon);
            self.change(StatePart::WEIGHTS, |weights| {
                weights[index] -= change as f32
            })?;
        }
        Ok(())
    }

    pub fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        for range in self.elements(ranges)? {
            let values = self.lock().values(part)?.get()?;
            let values = &values[range];
            take(0, TensorView::new(values, &[values.len()])?)?;
        }
        Ok(())
    }

    pub fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        let new = values.f32s()?;
        for range in self.elements(Ranges::Only(&[range]))? {
            self.change(part, |all| all[range].copy_from_slice(new))?;
        }
        Ok(())
    }
}
