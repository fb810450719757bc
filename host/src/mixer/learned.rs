//! The parameters of the mixer in training, with their gradients and AdamW's moments (arXiv 1711.05101).

use super::parameters::Parameter;
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, Ranges, StatePart, TakeTensor, TensorView,
    TensorViewMut, VisitTensor,
};
use merv_plugin_sdk::{
    PluginError, Result,
    kernels::{adamw::AdamWParameter, squares::squares},
};
use std::ops::Range;

/// The parameters with their states, in the order of the mixer.
pub struct Learned(Vec<LearnedParameter>);

/// A parameter with its state.
struct LearnedParameter {
    name: String,
    shape: Vec<usize>,
    var: Var,
    /// The sum of the gradients since they were cleared, if there were any. Parameters without a gradient are not
    /// updated, as in PyTorch.
    gradient: Option<Vec<f32>>,
    /// The running means of the gradient and of its square. Empty before the first step.
    moments: [Vec<f32>; 2],
}

/// Some elements of a parameter.
struct Chosen {
    parameter: usize,
    elements: Range<usize>,
}

impl Learned {
    /// Shares the parameters of a mixer, so that updates change the mixer.
    pub fn new(parameters: &[Parameter]) -> Self {
        let states = parameters.iter().map(|parameter| LearnedParameter {
            name: parameter.name.clone(),
            shape: parameter.var.dims().to_vec(),
            var: parameter.var.clone(),
            gradient: None,
            moments: Default::default(),
        });
        Self(states.collect())
    }

    /// Returns the number of parameters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the names and shapes.
    pub fn infos(&self) -> Vec<ParameterInfo> {
        let states = self.0.iter();
        states
            .map(|state| ParameterInfo::new(&state.name, state.shape.as_slice()))
            .collect()
    }

    /// Adds the gradients of one backward pass.
    ///
    /// # Errors
    ///
    /// When candle reports one.
    pub fn add(&mut self, gradients: &GradStore) -> Result<()> {
        for state in &mut self.0 {
            let Some(new) = gradients.get(state.var.as_tensor()) else {
                continue;
            };
            let new = new.flatten_all()?.to_vec1::<f32>()?;
            match &mut state.gradient {
                Some(sum) => sum.iter_mut().zip(&new).for_each(|(sum, new)| *sum += new),
                None => state.gradient = Some(new),
            }
        }
        Ok(())
    }

    /// See [`merv_plugin_api::Trainable::clear_gradients`].
    pub fn clear_gradients(&mut self) {
        self.0.iter_mut().for_each(|state| state.gradient = None);
    }

    /// Returns the elements in `ranges`.
    ///
    /// # Errors
    ///
    /// When a range does not exist, here and below.
    fn chosen(&self, ranges: Ranges<'_>) -> Result<Vec<Chosen>> {
        let whole = |(parameter, state): (usize, &LearnedParameter)| Chosen {
            parameter,
            elements: 0..state.len(),
        };
        match ranges {
            Ranges::All => Ok(self.0.iter().enumerate().map(whole).collect()),
            Ranges::Only(list) => list.iter().map(|range| self.find(*range)).collect(),
        }
    }

    fn find(&self, range: ParameterRange) -> Result<Chosen> {
        let (_, elements) = range.find(&self.0, |state| (&state.name, state.len()))?;
        Ok(Chosen {
            parameter: range.parameter as usize,
            elements,
        })
    }

    /// See [`merv_plugin_api::Trainable::gradient_squares`].
    ///
    /// # Errors
    ///
    /// When a range does not exist.
    pub fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64> {
        let chosen = self.chosen(ranges)?.into_iter();
        let sums = chosen.filter_map(|part| {
            let gradient = self.0[part.parameter].gradient.as_ref()?;
            Some(squares(&gradient[part.elements]))
        });
        Ok(sums.sum())
    }

    /// See [`merv_plugin_api::Trainable::apply_adamw`].
    ///
    /// # Errors
    ///
    /// When a number of the step is invalid, or a range does not exist.
    pub fn apply_adamw(&mut self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<()> {
        step.check()?;
        for part in self.chosen(ranges)? {
            self.0[part.parameter].step(step, part.elements)?;
        }
        Ok(())
    }

    /// See [`merv_plugin_api::Trainable::visit`].
    ///
    /// # Errors
    ///
    /// When there is no such part or range, and the error of `visit`.
    pub fn visit(
        &mut self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<()> {
        let whole = matches!(ranges, Ranges::All);
        for chosen in self.chosen(ranges)? {
            let Chosen {
                parameter,
                elements,
            } = chosen;
            let state = &mut self.0[parameter];
            let shape = match whole {
                true => state.shape.clone(),
                false => vec![elements.len()],
            };
            state.change(part, |values| {
                let view = TensorViewMut::new(&mut values[elements], &shape)?;
                visit(parameter as u32, view)
            })?;
        }
        Ok(())
    }

    /// See [`merv_plugin_api::Trainable::export`].
    ///
    /// # Errors
    ///
    /// When there is no such part or range, and the error of `take`.
    pub fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<()> {
        let whole = matches!(ranges, Ranges::All);
        for chosen in self.chosen(ranges)? {
            let state = &self.0[chosen.parameter];
            let values = state.values(part)?;
            let length = [chosen.elements.len()];
            let shape = if whole {
                state.shape.as_slice()
            } else {
                &length
            };
            let view = TensorView::new(&values[chosen.elements], shape)?;
            take(chosen.parameter as u32, view)?;
        }
        Ok(())
    }

    /// See [`merv_plugin_api::Trainable::import`].
    ///
    /// # Errors
    ///
    /// When there is no such part or range, or `values` has another number of elements.
    pub fn import(
        &mut self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<()> {
        let Chosen {
            parameter,
            elements,
        } = self.find(range)?;
        let values = values.f32s()?;
        let state = &mut self.0[parameter];
        if values.len() != elements.len() {
            return Err(PluginError::invalid(format!(
                "expected {} elements for `{}`, found {}",
                elements.len(),
                state.name,
                values.len()
            )));
        }
        state.change(part, |all| {
            all[elements].copy_from_slice(values);
            Ok(())
        })
    }
}

impl LearnedParameter {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns a copy of one part of the state. What does not exist yet is zeros.
    fn values(&self, part: StatePart) -> Result<Vec<f32>> {
        let stored = match part {
            StatePart::WEIGHTS => return Ok(self.var.flatten_all()?.to_vec1()?),
            StatePart::GRADIENT => self.gradient.clone().unwrap_or_default(),
            StatePart::FIRST_MOMENT => self.moments[0].clone(),
            StatePart::SECOND_MOMENT => self.moments[1].clone(),
            other => {
                return Err(PluginError::unsupported(format!(
                    "the mixer has weights, gradients and the two moments of AdamW; found the {other}"
                )));
            }
        };
        Ok(match stored.is_empty() {
            true => vec![0.0; self.len()],
            false => stored,
        })
    }

    /// Passes one part of the state to `change`, and keeps the result.
    fn change(
        &mut self,
        part: StatePart,
        change: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let mut values = self.values(part)?;
        change(&mut values)?;
        match part {
            StatePart::WEIGHTS => return self.set(values),
            StatePart::GRADIENT => self.gradient = Some(values),
            StatePart::FIRST_MOMENT => self.moments[0] = values,
            // `values` refuses all others.
            _ => self.moments[1] = values,
        }
        Ok(())
    }

    fn set(&self, values: Vec<f32>) -> Result<()> {
        let values = Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?;
        Ok(self.var.set(&values)?)
    }

    fn step(&mut self, step: &AdamWStep, elements: Range<usize>) -> Result<()> {
        let count = self.len();
        let mut values = self.values(StatePart::WEIGHTS)?;
        let Some(gradient) = &self.gradient else {
            return Ok(());
        };
        let parameter = AdamWParameter {
            name: &self.name,
            shape: &self.shape,
            values: &mut values[elements.clone()],
            gradient: &gradient[elements.clone()],
            moments: self.moments.each_mut().map(|moment| {
                moment.resize(count, 0.0);
                &mut moment[elements.clone()]
            }),
        };
        parameter.apply(step);
        self.set(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(name: &str, values: &[f32]) -> Learned {
        Learned::new(&[Parameter {
            name: name.to_owned(),
            var: Var::from_slice(values, &[1, values.len()], &Device::Cpu).unwrap(),
        }])
    }

    fn step(number: u64) -> AdamWStep {
        AdamWStep::new(number, 0.1)
            .weight_decay(0.5)
            .gradient_scale(0.25)
    }

    fn values(learned: &Learned) -> Vec<f32> {
        learned.0[0].values(StatePart::WEIGHTS).unwrap()
    }

    fn range(start: u64, end: u64) -> ParameterRange {
        ParameterRange {
            parameter: 0,
            start,
            end,
        }
    }

    /// Two steps of `torch.optim.AdamW(lr=0.1, weight_decay=0.5)` on gradients [1, -0.5], then [0.25, 2].
    const TORCH: [f32; 2] = [0.724_440_3, -1.765_950_3];

    #[test]
    fn two_steps_agree_with_pytorch_whole_and_in_ranges() {
        let ranges = [[range(0, 1)], [range(1, 2)]];
        let only = ranges.each_ref().map(|range| Ranges::Only(range));
        for work in [&[Ranges::All][..], &only] {
            let mut learned = learned("a.weight", &[1.0, -2.0]);
            for (number, gradient) in [(1, [4.0, -2.0]), (2, [1.0, 8.0])] {
                learned.0[0].gradient = Some(gradient.to_vec());
                for ranges in work {
                    learned.apply_adamw(&step(number), *ranges).unwrap();
                }
            }
            for (found, expected) in values(&learned).iter().zip(TORCH) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn nothing_changes_without_a_gradient() {
        let mut learned = learned("a.weight", &[1.0, 1.0]);
        learned.apply_adamw(&step(1), Ranges::All).unwrap();
        assert_eq!(values(&learned), [1.0, 1.0]);
        learned.0[0].gradient = Some(vec![0.0; 2]);
        learned.apply_adamw(&step(1), Ranges::All).unwrap();
        assert_eq!(values(&learned), [0.95; 2], "weight decay alone");
    }

    #[test]
    fn squares_and_states_are_those_of_the_ranges() {
        let mut learned = learned("a.weight", &[1.0, 2.0, 3.0]);
        assert_eq!(learned.gradient_squares(Ranges::All).unwrap(), 0.0);
        learned
            .visit(StatePart::GRADIENT, Ranges::All, &mut |index, mut view| {
                assert_eq!((index, view.view().shape()), (0, &[1, 3][..]));
                view.elements_mut::<f32>()?
                    .copy_from_slice(&[1.0, 2.0, 4.0]);
                Ok(())
            })
            .unwrap();
        assert_eq!(learned.gradient_squares(Ranges::All).unwrap(), 21.0);
        let last = [range(1, 3)];
        let squares = learned.gradient_squares(Ranges::Only(&last));
        assert_eq!(squares.unwrap(), 20.0);
        let new = TensorView::new(&[7.0f32, 8.0], &[2]).unwrap();
        learned
            .import(StatePart::FIRST_MOMENT, last[0], &new)
            .unwrap();
        let mut seen = Vec::new();
        let mut take = |_: u32, view: TensorView<'_>| {
            seen.push((view.shape().to_vec(), view.f32s()?.to_vec()));
            Ok(())
        };
        let export = |part, ranges, take: &mut TakeTensor<'_>| learned.export(part, ranges, take);
        export(StatePart::FIRST_MOMENT, Ranges::All, &mut take).unwrap();
        export(StatePart::WEIGHTS, Ranges::Only(&last), &mut take).unwrap();
        export(StatePart::SECOND_MOMENT, Ranges::All, &mut take).unwrap();
        let expected = [
            (vec![1, 3], vec![0.0, 7.0, 8.0]),
            (vec![2], vec![2.0, 3.0]),
            (vec![1, 3], vec![0.0; 3]),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let mut learned = learned("a.weight", &[1.0, 2.0]);
        let past = [range(1, 3)];
        let error = learned.gradient_squares(Ranges::Only(&past)).unwrap_err();
        let expected = "`a.weight` has 2 elements, found the range 1..3";
        assert!(error.message.contains(expected), "{error}");
        let other = StatePart::from_number(77);
        let error = learned.visit(other, Ranges::All, &mut |_, _| Ok(()));
        let error = error.unwrap_err();
        assert!(error.message.contains("two moments"), "{error}");
        let short = TensorView::new(&[1.0f32], &[1]).unwrap();
        let error = learned
            .import(StatePart::WEIGHTS, range(0, 2), &short)
            .unwrap_err();
        assert!(error.message.contains("expected 2 elements"), "{error}");
        let error = learned.apply_adamw(&step(0), Ranges::All).unwrap_err();
        assert!(error.message.contains("a step from 1 on"), "{error}");
    }
}
