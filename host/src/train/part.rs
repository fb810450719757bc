//! The trained parts of a model: the host's mixer, and the models in plugins. Both have the same interface.

use crate::{Error, plugin::Training};
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, Ranges, StatePart, TakeTensor, TensorView,
};

/// A trained part of a model.
pub trait TrainedPart: Send + Sync {
    /// Returns its name in the run's folder: `mixer`, `llm`, `encoder-<id>`.
    fn name(&self) -> &str;

    /// Returns the names and shapes of its parameters, always in the same order.
    ///
    /// # Errors
    ///
    /// When the plugin reports an error.
    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error>;

    /// Returns the sum of the squares of its gradients, or `None` if it has had no gradient since they were
    /// cleared.
    ///
    /// # Errors
    ///
    /// The same as [`Self::parameters`].
    fn gradient_squares(&self) -> Result<Option<f64>, Error>;

    /// Sets its gradients to zero.
    ///
    /// # Errors
    ///
    /// The same as [`Self::parameters`].
    fn clear_gradients(&mut self) -> Result<(), Error>;

    /// Updates its parameters with their gradients.
    ///
    /// # Errors
    ///
    /// The same as [`Self::parameters`].
    fn apply_adamw(&mut self, step: &AdamWStep) -> Result<(), Error>;

    /// Calls `take` with one part of the state of every parameter, in the order of [`Self::parameters`].
    ///
    /// # Errors
    ///
    /// The same as [`Self::parameters`], and the errors of `take`.
    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error>;

    /// Restores one part of the state of one parameter, by its place in [`Self::parameters`].
    ///
    /// # Errors
    ///
    /// The same as [`Self::parameters`].
    fn import(
        &mut self,
        state: StatePart,
        parameter: u32,
        values: TensorView<'_>,
    ) -> Result<(), Error>;
}

/// A trained model in a plugin.
pub struct PluginPart {
    name: String,
    training: Training,
    /// Whether it has gradients.
    touched: bool,
}

impl PluginPart {
    /// Wraps a model that is prepared for training.
    pub fn new(name: String, training: Training) -> Self {
        Self {
            name,
            training,
            touched: false,
        }
    }

    /// Records that a backward pass has added gradients.
    pub fn touch(&mut self) {
        self.touched = true;
    }
}

impl TrainedPart for PluginPart {
    fn name(&self) -> &str {
        &self.name
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error> {
        Ok(self.training.parameters()?)
    }

    fn gradient_squares(&self) -> Result<Option<f64>, Error> {
        if !self.touched {
            return Ok(None);
        }
        Ok(Some(self.training.gradient_squares(Ranges::All)?))
    }

    fn clear_gradients(&mut self) -> Result<(), Error> {
        if self.touched {
            self.training.clear_gradients()?;
            self.touched = false;
        }
        Ok(())
    }

    fn apply_adamw(&mut self, step: &AdamWStep) -> Result<(), Error> {
        Ok(self.training.apply_adamw(step, Ranges::All)?)
    }

    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error> {
        Ok(self.training.export(state, Ranges::All, take)?)
    }

    fn import(
        &mut self,
        state: StatePart,
        parameter: u32,
        values: TensorView<'_>,
    ) -> Result<(), Error> {
        let range = ParameterRange::whole(parameter, values.shape().iter().product());
        Ok(self.training.import(state, range, values)?)
    }
}
