//! A network and its parameters: the part of a plugin's model that every kind shares.

use crate::{failure::Result, learned::Learned};
use merv_plugin_api::{
    AdamWStep, ParameterInfo, ParameterRange, PluginError, Ranges, StatePart, TakeTensor,
    TensorView, Trainable, TrainingOptions, VisitTensor,
};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A loaded model. The network's tensors are those of the parameters.
pub struct Model<I, N> {
    pub info: I,
    inner: RwLock<Inner<N>>,
}

/// A network and its parameters.
pub struct Inner<N> {
    pub network: N,
    pub learned: Learned,
}

// SAFETY: several threads may compute with the same tensors of libtorch. Whoever changes weights holds the lock alone, and
// gradients are changed under a lock of their own.
unsafe impl<N: Send> Sync for Inner<N> {}

impl<I, N> Model<I, N> {
    pub fn new(info: I, network: N, learned: Learned) -> Self {
        Self {
            info,
            inner: RwLock::new(Inner { network, learned }),
        }
    }

    /// Returns the network and its parameters to compute with. Many threads may do so at the same time. A panic left them
    /// as they were, because libtorch changes no tensor halfway.
    pub fn read(&self) -> RwLockReadGuard<'_, Inner<N>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<N>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I, N> Trainable for Model<I, N>
where
    I: Send + Sync + 'static,
    N: Send + 'static,
{
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        Ok(self.write().learned.begin(options)?)
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        let inner = self.read();
        let trained = inner.learned.trained()?.iter();
        Ok(trained.map(|parameter| parameter.info.clone()).collect())
    }

    fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        // A backward pass waits for the host, which may be waiting for gradients that it has named.
        let visited = match part {
            StatePart::GRADIENT => self.read().learned.visit(part, ranges, visit),
            _ => self.write().learned.visit(part, ranges, visit),
        };
        Ok(visited?)
    }

    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        Ok(self.read().learned.gradient_squares(ranges)?)
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        Ok(self.write().learned.clear_gradients()?)
    }

    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        Ok(self.write().learned.apply_adamw(step, ranges)?)
    }

    fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        Ok(self.read().learned.export(part, ranges, take)?)
    }

    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        Ok(self.write().learned.import(part, range, values)?)
    }
}
