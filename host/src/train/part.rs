//! The parts of a model that are trained: the host's mixer, and models that their plugins keep. All do
//! the same things.

use crate::{Error, plugin::Training};
use merv_plugin_api::{AdamWStep, ParameterInfo, StatePart, TakeTensor, TensorView};
use rayon::prelude::*;

/// Numbers that are squared and added up in one go: fixed, so that the sum is the same however many
/// threads there are.
const SUMMED_TOGETHER: usize = 1 << 15;

/// A part that is trained.
pub trait Part: Send + Sync {
    /// What it is called in a run's folder: `mixer`, `llm`, `encoder-<id>`.
    fn name(&self) -> &str;

    /// Names and shapes of what is trained, in an order that does not change.
    ///
    /// # Errors
    ///
    /// The plugin's answer; so for every method here.
    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error>;

    /// The sum of the squares of its gradients; nothing if no gradient has come in since they were
    /// cleared.
    ///
    /// # Errors
    ///
    /// As [`Self::parameters`].
    fn gradient_squares(&self) -> Result<Option<f64>, Error>;

    /// Sets its gradients to zero.
    ///
    /// # Errors
    ///
    /// As [`Self::parameters`].
    fn clear_gradients(&mut self) -> Result<(), Error>;

    /// Changes its parameters by their gradients.
    ///
    /// # Errors
    ///
    /// As [`Self::parameters`].
    fn apply_adamw(&mut self, step: &AdamWStep) -> Result<(), Error>;

    /// Hands out one part of the state of every parameter, in the order of [`Self::parameters`].
    ///
    /// # Errors
    ///
    /// As [`Self::parameters`]; and what `take` returns.
    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error>;

    /// Restores one part of the state of one parameter.
    ///
    /// # Errors
    ///
    /// As [`Self::parameters`].
    fn import(&mut self, state: StatePart, name: &str, values: TensorView<'_>)
    -> Result<(), Error>;
}

/// The sum of the squares of some numbers, in doubles, the same on any number of threads.
pub fn squares(values: &[f32]) -> f64 {
    let sums: Vec<f64> = values
        .par_chunks(SUMMED_TOGETHER)
        .map(|chunk| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        .collect();
    sums.iter().sum()
}

/// A model whose parameters are in its plugin.
pub struct PluginPart {
    name: String,
    training: Training,
    /// Whether a gradient has come in.
    touched: bool,
}

impl PluginPart {
    /// A model whose training has begun.
    pub fn new(name: String, training: Training) -> Self {
        Self {
            name,
            training,
            touched: false,
        }
    }

    /// Says that the plugin has gone back through the model.
    pub fn touch(&mut self) {
        self.touched = true;
    }
}

impl Part for PluginPart {
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
        let mut sum = 0.0;
        self.training.visit_gradients(&mut |_, gradient| {
            sum += squares(gradient);
            Ok(())
        })?;
        Ok(Some(sum))
    }

    fn clear_gradients(&mut self) -> Result<(), Error> {
        if self.touched {
            self.training.clear_gradients()?;
            self.touched = false;
        }
        Ok(())
    }

    fn apply_adamw(&mut self, step: &AdamWStep) -> Result<(), Error> {
        Ok(self.training.apply_adamw(step)?)
    }

    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error> {
        Ok(self.training.export(state, take)?)
    }

    fn import(
        &mut self,
        state: StatePart,
        name: &str,
        values: TensorView<'_>,
    ) -> Result<(), Error> {
        Ok(self.training.import(state, name, values)?)
    }
}
