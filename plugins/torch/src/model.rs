//! A network and its parameters behind one lock: the part of a plugin's model that every kind shares.

use crate::{failure::Result, learned::Learned};
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, PluginError, Ranges, StatePart, TakeTensor,
    TensorView, Trainable, TrainingOptions, VisitTensor,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A loaded model. The network's tensors are those of the parameters.
pub struct Model<I, N> {
    pub info: I,
    inner: Mutex<(N, Learned)>,
}

impl<I, N> Model<I, N> {
    pub fn new(info: I, network: N, learned: Learned) -> Self {
        Self {
            info,
            inner: Mutex::new((network, learned)),
        }
    }

    /// Locks the network and its parameters. A panic left them as they were, because libtorch changes no tensor halfway.
    pub fn lock(&self) -> MutexGuard<'_, (N, Learned)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the places of all trained parameters.
pub fn places(learned: &Learned) -> Result<Vec<u32>> {
    Ok((0..)
        .zip(learned.trained()?)
        .map(|(place, _)| place)
        .collect())
}

impl<I, N> Trainable for Model<I, N>
where
    I: Send + Sync + 'static,
    N: Send + 'static,
{
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        if let Some(key) = options.extra.keys().next() {
            return Err(PluginError::unsupported(format!("no setting `{key}`")));
        }
        Ok(self.lock().1.begin(options.trainable)?)
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        let inner = self.lock();
        let trained = inner.1.trained()?.iter();
        Ok(trained.map(|parameter| parameter.info.clone()).collect())
    }

    fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        Ok(self.lock().1.visit(part, ranges, visit)?)
    }

    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        Ok(self.lock().1.gradient_squares(ranges)?)
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        Ok(self.lock().1.clear_gradients()?)
    }

    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        Ok(self.lock().1.apply_adamw(step, ranges)?)
    }

    fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        Ok(self.lock().1.export(part, ranges, take)?)
    }

    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        Ok(self.lock().1.import(part, range, values)?)
    }
}
