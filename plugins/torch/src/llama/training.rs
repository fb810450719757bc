//! Learning from a batch of texts.

use super::network::{Llama, causal};
use crate::{
    failure::Result,
    model::{Model, places},
    tensor::{copied_as, given, size},
};
use merv_plugin_api::{
    Backward, IGNORED_LABEL, LanguageModelInfo, LossAndGradient, PluginError, ReadyGradients,
    TensorBuf, TensorView, TrainableLanguageModel, TrainingTexts,
};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

/// The place of the embedding table among the parameters.
const EMBEDDINGS: usize = 0;

/// Texts as tensors of libtorch.
struct Texts {
    /// `[batch, length, width]`
    embeds: Tensor,
    /// `[batch, 1, length, length]`: which positions each position may read.
    mask: Tensor,
    /// `[batch, length - 1]`: the token that follows each position, or [`IGNORED_LABEL`].
    next: Tensor,
    /// The number of labels that count.
    count: u64,
}

impl Model<LanguageModelInfo, Llama> {
    fn texts(&self, texts: &TrainingTexts<'_>) -> Result<Texts> {
        let [batch, length, _] = texts.embeds.dims::<3>()?;
        let shape = [batch, length, self.info.width as usize];
        let embeds = copied_as("embeddings", &texts.embeds, &shape)?;
        for (what, view) in [("a mask", &texts.mask), ("labels", &texts.labels)] {
            if view.shape() != [batch, length] {
                let found = view.shape();
                let message =
                    format!("expected {what} of shape [{batch}, {length}], found {found:?}");
                return Err(PluginError::invalid(message).into());
            }
        }
        let (kept, labels) = (
            texts.mask.elements::<u8>()?,
            texts.labels.elements::<i64>()?,
        );
        let vocab = i64::from(self.info.vocab_size);
        let is_label = |&label: &i64| label == IGNORED_LABEL || (0..vocab).contains(&label);
        if let Some(label) = labels.iter().find(|&label| !is_label(label)) {
            let message = format!("expected ids of tokens below {vocab}, found {label}");
            return Err(PluginError::invalid(message).into());
        }
        let mut next = Vec::with_capacity(labels.len());
        if length > 1 {
            for (kept, labels) in kept.chunks(length).zip(labels.chunks(length)) {
                let pairs = kept.windows(2).zip(&labels[1..]);
                next.extend(pairs.map(|(kept, &label)| match kept.contains(&0) {
                    true => IGNORED_LABEL,
                    false => label,
                }));
            }
        }
        let count = next.iter().filter(|&&label| label != IGNORED_LABEL).count() as u64;
        let (rows, columns) = (size(batch), size(length));
        let kept = Tensor::f_from_slice(kept)?.f_to_kind(Kind::Bool)?;
        let kept = kept.f_view([rows, 1, 1, columns])?;
        // A padded position reads itself, because the softmax of nothing is not a number.
        let itself = Tensor::f_eye(columns, (Kind::Bool, Device::Cpu))?;
        let mask = kept
            .f_logical_or(&itself)?
            .f_logical_and(&causal(columns, 0)?)?;
        Ok(Texts {
            embeds,
            mask,
            next: Tensor::f_from_slice(&next)?.f_view([rows, (columns - 1).max(0)])?,
            count,
        })
    }

    fn loss(&self, network: &Llama, texts: &Texts) -> Result<Tensor> {
        let (hidden, _) = network.forward(&texts.embeds, &texts.mask, &[], 0)?;
        let positions = texts.next.size2()?.1;
        let logits = network.head.forward(&hidden.f_narrow(1, 0, positions)?)?;
        let logits = logits.f_view([-1, i64::from(self.info.vocab_size)])?;
        let next = texts.next.f_view([-1])?;
        let sum = Reduction::Sum;
        Ok(logits.f_cross_entropy_loss::<Tensor>(&next, None, sum, IGNORED_LABEL, 0.0)?)
    }

    fn learned(
        &self,
        texts: &Texts,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient> {
        let inner = self.lock();
        let (network, learned) = &*inner;
        learned.is_trained()?;
        match what {
            Backward::LOSS_ONLY => {
                let loss = no_grad(|| self.loss(network, texts))?;
                let none = TensorBuf::from_vec(Vec::<f32>::new(), &[0])?;
                Ok(LossAndGradient::new(
                    loss.f_double_value(&[])?,
                    texts.count,
                    none,
                ))
            }
            Backward::GRADIENTS => {
                let embeds = texts.embeds.f_set_requires_grad(true)?;
                let loss = self.loss(network, texts)?;
                let gradient = learned.backward(&loss, Some(&embeds))?;
                ready(&places(learned)?)?;
                let gradient = gradient
                    .filter(Tensor::defined)
                    .map_or_else(|| embeds.f_zeros_like(), Ok)?;
                let sum = loss.f_double_value(&[])?;
                Ok(LossAndGradient::new(sum, texts.count, given(&gradient)?))
            }
            other => Err(PluginError::unsupported(other).into()),
        }
    }
}

impl TrainableLanguageModel for Model<LanguageModelInfo, Llama> {
    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError> {
        Ok(self.learned(&self.texts(texts)?, what, ready)?)
    }

    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError> {
        let gradient = copied_as(
            "a gradient",
            gradient,
            &[ids.len(), self.info.width as usize],
        )?;
        let ids = self.check_ids(ids)?;
        Ok(self.lock().1.add_rows(EMBEDDINGS, &ids, &gradient)?)
    }
}
