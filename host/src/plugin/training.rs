//! Training the parameters of a loaded model.

use super::CallError;
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, PluginError, Ranges, StatePart, TakeTensor,
    TensorView, TrainableObject, TrainingOptions, VisitTensor,
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

    /// Calls `visit` with one part of the state of every parameter, in the order of [`Self::parameters`], or of ranges. It
    /// can read and change the values.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun, and any error of `visit`.
    pub fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), CallError> {
        let visited = self.object.visit(part, ranges, visit);
        self.named(&format!("visit the {part}"), visited)
    }

    /// Returns the sum of the squares of the gradients of some elements.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun or a range does not exist.
    pub fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, CallError> {
        let squares = self.object.gradient_squares(ranges);
        self.named("sum the squares of the gradients", squares)
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun.
    pub fn clear_gradients(&self) -> Result<(), CallError> {
        self.named("clear the gradients", self.object.clear_gradients())
    }

    /// Updates some elements with their gradients.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun, `step` is not valid or a range does not exist.
    pub fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), CallError> {
        let result = self.object.apply_adamw(step, ranges);
        self.named("update the parameters", result)
    }

    /// Calls `take` with one part of the state of some elements.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun or a range does not exist, and any error of `take`.
    pub fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), CallError> {
        let result = self.object.export(part, ranges, take);
        self.named("export the parameters", result)
    }

    /// Restores one part of the state of some elements of one parameter.
    ///
    /// # Errors
    ///
    /// Returns an error if training has not begun or the tensor does not fit.
    pub fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: TensorView<'_>,
    ) -> Result<(), CallError> {
        let result = self.object.import(part, range, values);
        self.named("import a parameter", result)
    }

    /// Adds the names of the plugin, the operation and the model to an error.
    fn named<T>(&self, doing: &str, result: Result<T, PluginError>) -> Result<T, CallError> {
        result.map_err(|error| {
            CallError::new(&self.plugin, &format!("{doing} of `{}`", self.id), error)
        })
    }
}
