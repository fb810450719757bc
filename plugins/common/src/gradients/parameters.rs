//! All parameters of a model, for the host to train.

use super::Parameter;
use crate::{Result, kernels::squares::squares, threads::on_pool};
use merv_architectures::training;
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, PluginError, Ranges, ReadyGradients, StatePart,
    TakeTensor, TensorView, TensorViewMut, TrainingOptions, VisitTensor,
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// The parameters of a model, in the order in which the model took them. The methods implement those of
/// [`Trainable`](merv_plugin_api::Trainable).
pub struct Parameters {
    all: Vec<Parameter>,
    options: Mutex<Option<TrainingOptions>>,
}

impl Parameters {
    pub(crate) fn new(all: Vec<Parameter>) -> Self {
        Self {
            all,
            options: Mutex::default(),
        }
    }

    /// Returns how the model is trained.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    pub fn options(&self) -> Result<TrainingOptions> {
        let options = self
            .options
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        options.ok_or_else(training::not_begun)
    }

    /// Returns the parameters that are trained: all or none.
    fn trained(&self) -> Result<&[Parameter]> {
        Ok(if self.options()?.trainable {
            &self.all
        } else {
            &[]
        })
    }

    /// See [`Trainable::begin_training`](merv_plugin_api::Trainable::begin_training).
    ///
    /// # Errors
    ///
    /// When a weight is quantised, or when a model that is already being trained is to be frozen.
    pub fn begin(&self, requested: &TrainingOptions) -> Result<()> {
        training::check_options(requested)?;
        let mut options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        if requested.trainable {
            if let Some(reason) = self.all.iter().find_map(Parameter::untrainable) {
                return Err(PluginError::unsupported(format!(
                    "the model cannot be trained because its weight {reason}; train it from weights in \
                     f32, f16 or bf16, or leave it frozen"
                )));
            }
            self.all.iter().for_each(Parameter::train);
        } else if options.as_ref().is_some_and(|options| options.trainable) {
            return Err(training::cannot_freeze());
        }
        *options = Some(requested.clone());
        Ok(())
    }

    /// See [`Trainable::parameters`](merv_plugin_api::Trainable::parameters).
    ///
    /// # Errors
    ///
    /// When training has not begun, like every method below.
    pub fn list(&self) -> Result<Vec<ParameterInfo>> {
        let info = |parameter: &Parameter| ParameterInfo::new(parameter.name(), parameter.shape());
        Ok(self.trained()?.iter().map(info).collect())
    }

    /// See [`Trainable::visit`](merv_plugin_api::Trainable::visit).
    ///
    /// # Errors
    ///
    /// When training has not begun or there is no such part or range, and the error of `visit`.
    pub fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<()> {
        for chosen in self.chosen(ranges)? {
            let length = [chosen.range.len()];
            chosen.parameter.visit(part, |values| {
                let shape = chosen.shape(&length);
                let values = &mut values[chosen.range.clone()];
                visit(chosen.index, TensorViewMut::new(values, shape)?)
            })?;
        }
        Ok(())
    }

    /// See [`Trainable::gradient_squares`](merv_plugin_api::Trainable::gradient_squares).
    ///
    /// # Errors
    ///
    /// When training has not begun, or a range does not exist.
    pub fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64> {
        let chosen = self.chosen(ranges)?;
        on_pool(|| {
            let mut sum = 0.0;
            for Chosen {
                parameter, range, ..
            } in chosen
            {
                sum += parameter.visit(StatePart::GRADIENT, |gradient| {
                    Ok(squares(&gradient[range]))
                })?;
            }
            Ok(sum)
        })
    }

    /// Tells that a backward pass is finished: it adds to the gradient of no parameter any more.
    ///
    /// # Errors
    ///
    /// When training has not begun, and the error of `ready`.
    pub fn all_ready(&self, ready: &mut ReadyGradients<'_>) -> Result<()> {
        let all: Vec<u32> = (0..).zip(self.trained()?).map(|(index, _)| index).collect();
        training::tell(ready, &all)
    }

    /// Returns the elements in `ranges`, by parameter.
    fn chosen(&self, ranges: Ranges<'_>) -> Result<Vec<Chosen<'_>>> {
        let trained = self.trained()?;
        let whole = |(index, parameter)| Chosen {
            index,
            parameter,
            range: 0..Parameter::len(parameter),
            is_whole: true,
        };
        match ranges {
            Ranges::All => Ok((0..).zip(trained).map(whole).collect()),
            Ranges::Only(list) => list.iter().map(|range| find(trained, *range)).collect(),
        }
    }

    /// See [`Trainable::clear_gradients`](merv_plugin_api::Trainable::clear_gradients).
    ///
    /// # Errors
    ///
    /// When training has not begun.
    pub fn clear_gradients(&self) -> Result<()> {
        self.trained()?.iter().for_each(Parameter::clear);
        Ok(())
    }

    /// See [`Trainable::apply_adamw`](merv_plugin_api::Trainable::apply_adamw).
    ///
    /// # Errors
    ///
    /// When training has not begun, a number of the step is out of range, or a range does not exist.
    pub fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<()> {
        let chosen = self.chosen(ranges)?;
        step.check()?;
        on_pool(|| {
            let mut chosen = chosen.into_iter();
            chosen.try_for_each(|part| part.parameter.step(step, part.range))
        })
    }

    /// See [`Trainable::export`](merv_plugin_api::Trainable::export).
    ///
    /// # Errors
    ///
    /// When training has not begun or a range does not exist, and the error of `take`.
    pub fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<()> {
        for chosen in self.chosen(ranges)? {
            let length = [chosen.range.len()];
            let mut pass = |values: &[f32]| {
                let values = &values[chosen.range.clone()];
                take(
                    chosen.index,
                    TensorView::new(values, chosen.shape(&length))?,
                )
            };
            // Weights are read without a lock, so that computations go on.
            match part {
                StatePart::WEIGHTS => pass(&chosen.parameter.values().f32s())?,
                part => chosen.parameter.visit(part, |values| pass(values))?,
            }
        }
        Ok(())
    }

    /// See [`Trainable::import`](merv_plugin_api::Trainable::import).
    ///
    /// # Errors
    ///
    /// When training has not begun, the range does not exist, or `values` has another number of elements.
    pub fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<()> {
        let Chosen {
            parameter, range, ..
        } = find(self.trained()?, range)?;
        let values = values.f32s()?;
        training::same_length(parameter.name(), range.len(), values.len())?;
        parameter.visit(part, |state| {
            state[range].copy_from_slice(values);
            Ok(())
        })
    }
}

/// Some elements of a parameter.
struct Chosen<'p> {
    index: u32,
    parameter: &'p Parameter,
    range: Range<usize>,
    /// Whether the call is about all parameters, and not about ranges.
    is_whole: bool,
}

impl Chosen<'_> {
    /// Returns the shape of the elements. `length` is their number.
    fn shape<'s>(&'s self, length: &'s [usize; 1]) -> &'s [usize] {
        match self.is_whole {
            true => self.parameter.shape(),
            false => length,
        }
    }
}

/// Finds the elements of a range.
fn find(trained: &[Parameter], range: ParameterRange) -> Result<Chosen<'_>> {
    let (parameter, elements) =
        range.find(trained, |parameter| (parameter.name(), parameter.len()))?;
    Ok(Chosen {
        index: range.parameter,
        parameter,
        range: elements,
        is_whole: false,
    })
}

/// Implements [`Trainable`](merv_plugin_api::Trainable) for a model with the field that contains its
/// [`Parameters`]: `trainable!(Llama, parameters)`.
#[macro_export]
macro_rules! trainable {
    ($model:ty, $field:ident) => {
        impl ::merv_plugin_api::Trainable for $model {
            fn begin_training(
                &self,
                options: &::merv_plugin_api::TrainingOptions,
            ) -> $crate::Result<()> {
                self.$field.begin(options)
            }

            fn parameters(&self) -> $crate::Result<Vec<::merv_plugin_api::ParameterInfo>> {
                self.$field.list()
            }

            fn visit(
                &self,
                part: ::merv_plugin_api::StatePart,
                ranges: ::merv_plugin_api::Ranges<'_>,
                visit: &mut ::merv_plugin_api::VisitTensor<'_>,
            ) -> $crate::Result<()> {
                self.$field.visit(part, ranges, visit)
            }

            fn gradient_squares(
                &self,
                ranges: ::merv_plugin_api::Ranges<'_>,
            ) -> $crate::Result<f64> {
                self.$field.gradient_squares(ranges)
            }

            fn clear_gradients(&self) -> $crate::Result<()> {
                self.$field.clear_gradients()
            }

            fn apply_adamw(
                &self,
                step: &::merv_plugin_api::AdamWStep,
                ranges: ::merv_plugin_api::Ranges<'_>,
            ) -> $crate::Result<()> {
                self.$field.apply_adamw(step, ranges)
            }

            fn export(
                &self,
                part: ::merv_plugin_api::StatePart,
                ranges: ::merv_plugin_api::Ranges<'_>,
                take: &mut ::merv_plugin_api::TakeTensor<'_>,
            ) -> $crate::Result<()> {
                self.$field.export(part, ranges, take)
            }

            fn import(
                &self,
                part: ::merv_plugin_api::StatePart,
                range: ::merv_plugin_api::ParameterRange,
                values: &::merv_plugin_api::TensorView<'_>,
            ) -> $crate::Result<()> {
                self.$field.import(part, range, values)
            }
        }
    };
}
