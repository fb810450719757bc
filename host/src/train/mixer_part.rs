//! The mixer as a trained part of a model.

use super::part::TrainedPart;
use crate::{
    Error,
    mixer::{CoreMixer, MixerError},
};
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, Ranges, StatePart, TakeTensor, TensorView, Trainable,
};
use std::sync::Arc;

/// The host's mixer, which is prepared for training.
pub struct MixerPart {
    mixer: Arc<CoreMixer>,
    /// Whether it has gradients.
    touched: bool,
}

impl MixerPart {
    /// Shares a mixer, so that updates change it.
    pub fn new(mixer: Arc<CoreMixer>) -> Self {
        Self {
            mixer,
            touched: false,
        }
    }

    /// Records that a backward pass has added gradients.
    pub fn touch(&mut self) {
        self.touched = true;
    }
}

impl TrainedPart for MixerPart {
    fn name(&self) -> &str {
        "mixer"
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error> {
        Ok(self.mixer.parameters().map_err(MixerError::from)?)
    }

    fn gradient_squares(&self) -> Result<Option<f64>, Error> {
        let squares = self
            .touched
            .then(|| self.mixer.gradient_squares(Ranges::All));
        Ok(squares.transpose().map_err(MixerError::from)?)
    }

    fn clear_gradients(&mut self) -> Result<(), Error> {
        self.touched = false;
        Ok(self.mixer.clear_gradients().map_err(MixerError::from)?)
    }

    fn apply_adamw(&mut self, step: &AdamWStep) -> Result<(), Error> {
        let applied = self.mixer.apply_adamw(step, Ranges::All);
        Ok(applied.map_err(MixerError::from)?)
    }

    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error> {
        let exported = self.mixer.export(state, Ranges::All, take);
        Ok(exported.map_err(MixerError::from)?)
    }

    fn import(
        &mut self,
        state: StatePart,
        parameter: u32,
        values: TensorView<'_>,
    ) -> Result<(), Error> {
        let range = ParameterRange::whole(parameter, values.shape().iter().product());
        let imported = self.mixer.import(state, range, &values);
        Ok(imported.map_err(MixerError::from)?)
    }
}
