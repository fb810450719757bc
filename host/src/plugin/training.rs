//! The parameters of a loaded model, to train them.

use super::CallError;
use merv_plugin_api::{
    AdamWStep, ParameterInfo, PluginError, StatePart, TakeTensor, TensorView, TrainableObject,
    TrainingOptions, VisitGradient,
};

/// The parameters of a model, which stay in its plugin; see [`merv_plugin_api::Trainable`] for what each
/// method does. Every one fails with the plugin's answer.
pub struct Training {
    plugin: String,
    id: String,
    object: TrainableObject,
}

impl Training {
    pub(super) fn new(plugin: &str, id: &str, object: TrainableObject) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            object,
        }
    }

    /// Prepares for training: makes the parameters changeable, if they are to be trained.
    ///
    /// # Errors
    ///
    /// When the model cannot be trained.
    pub fn begin(&self, options: &TrainingOptions) -> Result<(), CallError> {
        self.answer("begin to train", self.object.begin_training(options))
    }

    /// The trainable parameters, in an order that does not change; none when the model is not trained.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    pub fn parameters(&self) -> Result<Vec<ParameterInfo>, CallError> {
        self.answer("list the parameters", self.object.parameters())
    }

    /// Shows every parameter's accumulated gradient, in the order of [`Self::parameters`], to be looked at
    /// or changed.
    ///
    /// # Errors
    ///
    /// When training has not begun; and what `visit` returns.
    pub fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<(), CallError> {
        self.answer("visit the gradients", self.object.visit_gradients(visit))
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    ///
    /// When training has not begun.
    pub fn clear_gradients(&self) -> Result<(), CallError> {
        self.answer("clear the gradients", self.object.clear_gradients())
    }

    /// Changes every parameter by its gradient.
    ///
    /// # Errors
    ///
    /// When training has not begun or `step` makes no sense.
    pub fn apply_adamw(&self, step: &AdamWStep) -> Result<(), CallError> {
        self.answer("change the parameters", self.object.apply_adamw(step))
    }

    /// Hands out one part of the state of every parameter.
    ///
    /// # Errors
    ///
    /// When training has not begun; and what `take` returns.
    pub fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<(), CallError> {
        self.answer("export the parameters", self.object.export(part, take))
    }

    /// Restores one part of the state of one parameter.
    ///
    /// # Errors
    ///
    /// When training has not begun, or the tensor does not fit.
    pub fn import(
        &self,
        part: StatePart,
        name: &str,
        values: TensorView<'_>,
    ) -> Result<(), CallError> {
        let doing = format!("import `{name}`");
        self.answer(&doing, self.object.import(part, name, values))
    }

    fn answer<T>(&self, doing: &str, answer: Result<T, PluginError>) -> Result<T, CallError> {
        answer.map_err(|error| {
            CallError::new(&self.plugin, &format!("{doing} of `{}`", self.id), error)
        })
    }
}
