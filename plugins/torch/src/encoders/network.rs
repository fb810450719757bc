//! Networks that encode clips, and how the host calls them.

use crate::{
    failure::Result,
    model::Model,
    tensor::{given, input},
};
use merv_architectures::features::{check_clips, check_gradient};
use merv_plugin_api::{
    Clips, Encoder, EncoderInfo, PluginError, ReadyGradients, TensorBuf, TensorView,
    TrainableEncoder,
};
use tch::{Tensor, no_grad_guard};

/// A network that encodes clips.
pub trait Network: Send + 'static {
    /// Returns the number of frames that are encoded together.
    fn group(&self) -> usize;

    /// `[batch, frames, 3, size, size]` → `[batch, tokens, width]`
    fn forward(&self, clips: &Tensor) -> Result<Tensor>;
}

impl<N: Network> Model<EncoderInfo, N> {
    /// Takes clips to the device, if they have the right shape.
    fn pixels(&self, clips: &Clips<'_>, network: &N) -> Result<Tensor> {
        check_clips(&clips.pixels, &self.info, network.group())?;
        input(&clips.pixels, self.info.device)
    }
}

impl<N: Network> Encoder for Model<EncoderInfo, N> {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let inner = self.read();
        let _guard = no_grad_guard();
        let pixels = self.pixels(clips, &inner.network)?;
        Ok(given(&inner.network.forward(&pixels)?)?)
    }
}

impl<N: Network> TrainableEncoder for Model<EncoderInfo, N> {
    /// The features, with the graph that made them.
    type Tape = Tensor;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, Self::Tape), PluginError> {
        let inner = self.read();
        inner.learned.options()?;
        let pixels = self.pixels(clips, &inner.network)?;
        let features = inner.network.forward(&pixels)?;
        Ok((given(&features)?, features))
    }

    fn backward(
        &self,
        features: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError> {
        let batch = features.size().first().copied().unwrap_or_default();
        check_gradient(gradient, &self.info, |found| found as i64 == batch)?;
        let gradient = input(gradient, self.info.device)?;
        let learned = &self.read().learned;
        let all = 0..learned.trained()?.len();
        learned.backward(&features, &gradient, all, &[])?;
        Ok(learned.all_ready(ready)?)
    }
}
