//! All parameters of a model, for the host to train.

use super::Parameter;
use crate::{Result, threads::on_pool};
use merv_plugin_api::{
    AdamWStep, ParameterInfo, PluginError, StatePart, TakeTensor, TensorView, TrainingOptions,
    VisitGradient,
};
use std::sync::{Mutex, PoisonError};

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
        let options = *self.options.lock().unwrap_or_else(PoisonError::into_inner);
        options.ok_or_else(|| PluginError::invalid("training has not begun: call begin_training"))
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
        let mut options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        if requested.trainable {
            if let Some(reason) = self.all.iter().find_map(Parameter::untrainable) {
                return Err(PluginError::unsupported(format!(
                    "the model cannot be trained because its weight {reason}; train it from weights in \
                     f32, f16 or bf16, or leave it frozen"
                )));
            }
            self.all.iter().for_each(Parameter::train);
        } else if options.is_some_and(|options| options.trainable) {
            return Err(PluginError::invalid(
                "the model is already being trained and cannot be frozen again; load it again instead",
            ));
        }
        *options = Some(*requested);
        Ok(())
    }

    /// See [`Trainable::parameters`](merv_plugin_api::Trainable::parameters).
    ///
    /// # Errors
    ///
    /// When training has not begun, like every method below.
    pub fn list(&self) -> Result<Vec<ParameterInfo>> {
        let info = |parameter: &Parameter| ParameterInfo {
            name: parameter.name().into(),
            shape: parameter.shape().to_vec().into(),
        };
        Ok(self.trained()?.iter().map(info).collect())
    }

    /// See [`Trainable::visit_gradients`](merv_plugin_api::Trainable::visit_gradients).
    ///
    /// # Errors
    ///
    /// When training has not begun, and the error of `visit`.
    pub fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<()> {
        for parameter in self.trained()? {
            if let Some(result) = parameter.visit(|gradient| visit(parameter.name(), gradient)) {
                result?;
            }
        }
        Ok(())
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
    /// When training has not begun, or a number of the step is out of range.
    pub fn apply_adamw(&self, step: &AdamWStep) -> Result<()> {
        let trained = self.trained()?;
        let is_share = |beta: f64| (0.0..1.0).contains(&beta);
        let finite = [
            step.learning_rate,
            step.epsilon,
            step.weight_decay,
            step.gradient_scale,
        ];
        if step.step == 0
            || !is_share(step.beta1)
            || !is_share(step.beta2)
            || !finite.iter().all(|number| number.is_finite())
        {
            return Err(PluginError::invalid(format!(
                "expected a step from 1 on, betas from 0 to below 1 and finite numbers, found step {}, \
                 betas {} and {}, epsilon {}, learning rate {}, weight decay {}, gradient scale {}",
                step.step,
                step.beta1,
                step.beta2,
                step.epsilon,
                step.learning_rate,
                step.weight_decay,
                step.gradient_scale
            )));
        }
        on_pool(|| trained.iter().for_each(|parameter| parameter.step(step)));
        Ok(())
    }

    /// See [`Trainable::export`](merv_plugin_api::Trainable::export).
    ///
    /// # Errors
    ///
    /// When training has not begun, and the error of `take`.
    pub fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<()> {
        for parameter in self.trained()? {
            let result = parameter.export(part, |values| {
                take(
                    parameter.name(),
                    TensorView::new(values, parameter.shape())?,
                )
            });
            if let Some(result) = result {
                result?;
            }
        }
        Ok(())
    }

    /// See [`Trainable::import`](merv_plugin_api::Trainable::import).
    ///
    /// # Errors
    ///
    /// When training has not begun, or the model does not have a parameter of this name and shape.
    pub fn import(&self, part: StatePart, name: &str, values: &TensorView<'_>) -> Result<()> {
        let trained = self.trained()?;
        let found = trained.iter().find(|parameter| parameter.name() == name);
        let parameter = found.ok_or_else(|| {
            PluginError::invalid(format!(
                "`{name}` is not one of the {} parameters that are trained",
                trained.len()
            ))
        })?;
        parameter.import(part, values)
    }
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

            fn visit_gradients(
                &self,
                visit: &mut ::merv_plugin_api::VisitGradient<'_>,
            ) -> $crate::Result<()> {
                self.$field.visit_gradients(visit)
            }

            fn clear_gradients(&self) -> $crate::Result<()> {
                self.$field.clear_gradients()
            }

            fn apply_adamw(&self, step: &::merv_plugin_api::AdamWStep) -> $crate::Result<()> {
                self.$field.apply_adamw(step)
            }

            fn export(
                &self,
                part: ::merv_plugin_api::StatePart,
                take: &mut ::merv_plugin_api::TakeTensor<'_>,
            ) -> $crate::Result<()> {
                self.$field.export(part, take)
            }

            fn import(
                &self,
                part: ::merv_plugin_api::StatePart,
                name: &str,
                values: &::merv_plugin_api::TensorView<'_>,
            ) -> $crate::Result<()> {
                self.$field.import(part, name, values)
            }
        }
    };
}
