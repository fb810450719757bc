//! Learning from a batch of texts. The model is differentiated part by part, from the last to the first, so that the gradients
//! of each part are ready while the rest is computed.

use super::{network::Llama, session::causal};
use crate::{
    failure::Result,
    layers::attend,
    learned::Learned,
    model::Model,
    tensor::{given, input, size},
};
use merv_architectures::{
    llama::{check_embeds_gradient, check_labels, check_texts, predicted},
    training::tell,
};
use merv_plugin_api::{
    Backward, Call, LanguageModelInfo, LossAndGradient, PluginError, ReadyGradients, TensorBuf,
    TensorView, TrainableLanguageModel, TrainingTexts,
};
use std::ops::Range;
use tch::{Kind, Reduction, Tensor, no_grad_guard};

/// The place of the embedding table among the parameters.
const EMBEDDINGS: usize = 0;

/// The largest number of logits in memory at the same time: 256 MiB.
const LOGITS: usize = 64 << 20;

/// A batch of texts on the device.
struct Texts {
    /// `[batch, length, width]`
    embeds: Tensor,
    /// `[batch, 1, length, length]`: which positions each position may read.
    mask: Tensor,
    /// The rows of `[batch · length]` that predict a label.
    predicting: Tensor,
    /// `[predicting]`
    labels: Tensor,
    /// The number of labels.
    count: usize,
}

/// A part of the model during training: from its input, which begins a graph, to its output. The output is computed again in
/// the backward pass if it is not kept.
struct Part {
    input: Tensor,
    output: Option<Tensor>,
}

impl Texts {
    fn new(texts: &TrainingTexts<'_>, network: &Llama, info: &LanguageModelInfo) -> Result<Self> {
        let [batch, length] = check_texts(texts, &network.config)?;
        let (kept, labels) = (
            texts.mask.elements::<u8>()?,
            texts.labels.elements::<i64>()?,
        );
        let (mut predicting, mut found) = (Vec::new(), Vec::new());
        for text in 0..batch {
            let rows = text * length..(text + 1) * length;
            let (kept, labels) = (&kept[rows.clone()], &labels[rows]);
            for position in 0..length {
                if let Some(label) = predicted(kept, labels, position)? {
                    predicting.push(size(text * length + position));
                    found.push(label);
                }
            }
        }
        check_labels(&found, network.config.vocab_size)?;
        let labels: Vec<i64> = found.iter().map(|&label| i64::from(label)).collect();
        let device = network.embeddings.device();
        let kept = Tensor::f_from_slice(kept)?
            .f_to(device)?
            .f_to_kind(Kind::Bool)?;
        let kept = kept.f_view([size(batch), 1, 1, size(length)])?;
        // A padded position reads itself, because the softmax of nothing is not a number.
        let itself = Tensor::f_eye(size(length), (Kind::Bool, device))?;
        let mask = kept
            .f_logical_or(&itself)?
            .f_logical_and(&causal(size(length), 0, device)?)?;
        Ok(Self {
            embeds: input(&texts.embeds, info.device)?,
            mask,
            predicting: Tensor::f_from_slice(&predicting)?.f_to(device)?,
            labels: Tensor::f_from_slice(&labels)?.f_to(device)?,
            count: found.len(),
        })
    }
}

impl Llama {
    /// Runs the layers, and returns the hidden states `[batch, length, width]` after the last one. `keep` gets every part.
    fn run(
        &self,
        texts: &Texts,
        keep: &mut dyn FnMut(usize, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut x = texts.embeds.shallow_clone();
        for index in 0..self.layers.len() {
            Call::current().check()?;
            x = keep(index, &x)?;
        }
        Ok(x)
    }

    /// `[batch, length, width]` → the same, through one layer
    fn through(&self, index: usize, x: &Tensor, texts: &Texts) -> Result<Tensor> {
        let length = x.size3()?.1;
        let positions: Vec<i64> = (0..length).collect();
        let rotation = self.rope.at(&positions)?;
        self.layers[index].forward(x, |[q, k, v]| {
            let (q, k) = (rotation.apply(&q)?, rotation.apply(&k)?);
            attend(&q, &k, &v, Some(&texts.mask))
        })
    }

    /// The rows that predict a label, `[predicting, width]`, after the norm.
    fn predicting(&self, hidden: &Tensor, texts: &Texts) -> Result<Tensor> {
        let rows = hidden
            .f_flatten(0, 1)?
            .f_index_select(0, &texts.predicting)?;
        self.normed(&rows)
    }

    /// Returns the ranges of predicting rows whose logits are in memory at the same time.
    fn chunks(&self, texts: &Texts) -> impl Iterator<Item = (i64, i64)> {
        let each = (LOGITS / self.config.vocab_size.max(1)).max(16);
        let count = texts.count;
        (0..count)
            .step_by(each)
            .map(move |first| (size(first), size(each.min(count - first))))
    }

    /// The summed cross-entropy of some of the predicting rows.
    fn loss(&self, normed: &Tensor, texts: &Texts, (first, count): (i64, i64)) -> Result<Tensor> {
        let logits = self.logits(&normed.f_narrow(0, first, count)?)?;
        let labels = texts.labels.f_narrow(0, first, count)?;
        Ok(logits.f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, -100, 0.0)?)
    }

    /// Returns the summed loss.
    fn loss_only(&self, texts: &Texts) -> Result<f64> {
        let _guard = no_grad_guard();
        let hidden = self.run(texts, &mut |index, x| self.through(index, x, texts))?;
        let normed = self.predicting(&hidden, texts)?;
        let mut sum = 0.0;
        for chunk in self.chunks(texts) {
            sum += self.loss(&normed, texts, chunk)?.f_double_value(&[])?;
        }
        Ok(sum)
    }

    /// Returns the summed loss and its gradient with respect to the embeddings, `[batch, length, width]`.
    fn learn(
        &self,
        texts: &Texts,
        learned: &Learned,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(f64, Tensor)> {
        let recompute = learned.options()?.checkpoint_activations;
        let mut parts: Vec<Part> = Vec::with_capacity(self.layers.len());
        let hidden = self.run(texts, &mut |index, x| {
            let input = x.f_detach()?;
            let output = match recompute {
                true => {
                    let _guard = no_grad_guard();
                    self.through(index, &input, texts)?
                }
                false => {
                    let _ = input.f_set_requires_grad(true)?;
                    self.through(index, &input, texts)?
                }
            };
            let kept = (!recompute).then(|| output.shallow_clone());
            parts.push(Part {
                input,
                output: kept,
            });
            Ok(output.f_detach()?)
        })?;

        // The head: some rows at a time, so that not all logits are in memory.
        let _ = hidden.f_set_requires_grad(true)?;
        let rows = self.predicting(&hidden, texts)?;
        let normed = rows.f_detach()?.f_set_requires_grad(true)?;
        let head = match self.places.head.is_empty() {
            true => EMBEDDINGS..EMBEDDINGS + 1,
            false => self.places.head.clone(),
        };
        let (mut sum, mut gradient) = (0.0, normed.f_zeros_like()?);
        for chunk in self.chunks(texts) {
            let loss = self.loss(&normed, texts, chunk)?;
            sum += loss.f_double_value(&[])?;
            let one = loss.f_ones_like()?;
            for part in learned.backward(&loss, &one, head.clone(), &[&normed])? {
                let _guard = no_grad_guard();
                gradient = gradient.f_add(&part)?;
            }
        }
        self.told(learned, &self.places.head, ready)?;
        let mut gradient = self.first(learned.backward(
            &rows,
            &gradient,
            self.places.norm.clone(),
            &[&hidden],
        )?)?;
        self.told(learned, &self.places.norm, ready)?;

        while let Some(part) = parts.pop() {
            Call::current().check()?;
            let index = parts.len();
            let output = match part.output {
                Some(output) => output,
                None => {
                    let _ = part.input.f_set_requires_grad(true)?;
                    self.through(index, &part.input, texts)?
                }
            };
            let places = &self.places.layers[index];
            let inputs = [&part.input];
            gradient =
                self.first(learned.backward(&output, &gradient, places.clone(), &inputs)?)?;
            self.told(learned, places, ready)?;
        }
        Ok((sum, gradient))
    }

    fn first(&self, gradients: Vec<Tensor>) -> Result<Tensor> {
        let first = gradients.into_iter().next().filter(Tensor::defined);
        Ok(first.ok_or_else(|| {
            PluginError::new(
                merv_plugin_api::ErrorKind::INTERNAL,
                "a layer ignores its input",
            )
        })?)
    }

    /// Tells the host that gradients are ready, if the parameters are trained.
    fn told(
        &self,
        learned: &Learned,
        places: &Range<usize>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<()> {
        if learned.trained()?.is_empty() {
            return Ok(());
        }
        let places: Vec<u32> = places
            .clone()
            .filter_map(|place| u32::try_from(place).ok())
            .collect();
        Ok(tell(ready, &places)?)
    }
}

impl TrainableLanguageModel for Model<LanguageModelInfo, Llama> {
    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError> {
        let inner = self.read();
        let (network, learned) = (&inner.network, &inner.learned);
        learned.options()?;
        let texts = Texts::new(texts, network, &self.info)?;
        let count = texts.count as u64;
        match what {
            Backward::LOSS_ONLY => {
                let none = TensorBuf::from_vec(Vec::<f32>::new(), &[0])?;
                Ok(LossAndGradient::new(
                    network.loss_only(&texts)?,
                    count,
                    none,
                ))
            }
            Backward::GRADIENTS => {
                let (sum, gradient) = network.learn(&texts, learned, ready)?;
                Ok(LossAndGradient::new(sum, count, given(&gradient)?))
            }
            other => Err(PluginError::unsupported(format!("unknown {other}"))),
        }
    }

    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError> {
        let inner = self.read();
        inner.learned.options()?;
        check_embeds_gradient(gradient, ids.len(), &inner.network.config)?;
        let ids = inner.network.ids(ids)?;
        let gradient = input(gradient, self.info.device)?;
        Ok(inner.learned.add_rows(EMBEDDINGS, &ids, &gradient)?)
    }
}
