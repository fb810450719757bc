//! Training the parameters of a loaded model.

use super::CallError;
use merv_plugin_api::{
    AdamWStep, ParameterInfo, PluginError, StatePart, TakeTensor, TensorView, TrainableObject,
    TrainingOptions, VisitGradient,
};

/// The parameters of a model, which stay in its plugin. [`merv_plugin_api::Trainable`] describes each method.
/// Every method returns the plugin's errors.
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

    /// Begins training, and makes the parameters that are trained mutable.
    ///
    /// # Errors
    ///
    /// Returns an error if the model cannot be trained.
    pub fn begin(&self, options: &TrainingOptions) -> Result<(), CallError> {
        self.named("begin the training", self.object.begin_training(options))
    }

    /// Returns the trained parameters in a fixed order. The list is empty if the model is not trained.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun.
    pub fn parameters(&self) -> Result<Vec<ParameterInfo>, CallError> {
        self.named("list the parameters", self.object.parameters())
    }

    /// Calls `visit` with the accumulated gradient of every parameter, in the order of [`Self::parameters`].
    /// It can read and change the gradient.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun, and any error of `visit`.
    pub fn visit_gradients(&self, visit: &mut VisitGradient<'_>) -> Result<(), CallError> {
        self.named("visit the gradients", self.object.visit_gradients(visit))
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun.
    pub fn clear_gradients(&self) -> Result<(), CallError> {
        self.named("clear the gradients", self.object.clear_gradients())
    }

    /// Updates every parameter with its gradient.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun or `step` is not valid.
    pub fn apply_adamw(&self, step: &AdamWStep) -> Result<(), CallError> {
        self.named("update the parameters", self.object.apply_adamw(step))
    }

    /// Calls `take` with one part of the state of every parameter.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun, and any error of `take`.
    pub fn export(&self, part: StatePart, take: &mut TakeTensor<'_>) -> Result<(), CallError> {
        self.named("export the parameters", self.object.export(part, take))
    }

    /// Restores one part of the state of one parameter.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun or the tensor does not fit.
    pub fn import(
        &self,
        part: StatePart,
        name: &str,
        values: TensorView<'_>,
    ) -> Result<(), CallError> {
        let doing = format!("import `{name}`");
        self.named(&doing, self.object.import(part, name, values))
    }

    /// Adds the names of the plugin, the operation and the model to an error.
    fn named<T>(&self, doing: &str, result: Result<T, PluginError>) -> Result<T, CallError> {
        result.map_err(|error| {
            CallError::new(&self.plugin, &format!("{doing} of `{}`", self.id), error)
        })
    }
}
