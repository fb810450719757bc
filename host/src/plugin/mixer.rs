//! A loaded mixer or fusion of a plugin.

use super::{CallError, Training, cancellation::RunningCall};
use merv_plugin_api::{
    ErrorKind, MixerInfo, MixerObject, MixerRequest, PluginError, ReadyGradients, TapeId,
    TensorBuf, TensorView, VisualTokens,
};
use std::sync::Arc;

/// A loaded mixer or fusion with its names for messages.
pub struct PluginMixer {
    plugin: String,
    request: MixerRequest,
    info: MixerInfo,
    object: MixerObject,
}

impl PluginMixer {
    pub(super) fn new(
        plugin: &str,
        request: &MixerRequest,
        info: MixerInfo,
        object: MixerObject,
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            request: request.clone(),
            info,
            object,
        }
    }

    /// Returns the mixer's description.
    pub fn info(&self) -> &MixerInfo {
        &self.info
    }

    /// Computes the visual tokens of a batch of clips. The features are borrowed, not copied.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, temporal · spatial, width]` → tokens `[batch, tokens, llm_width]` and, if the mixer has
    /// weights, `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if the tokens or weights do not have the shape that the plugin described.
    pub fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens, CallError> {
        let call = RunningCall::begin();
        let mixed = self.object.forward(call.call(), features);
        let mixed = mixed.and_then(|mixed| self.checked(features, mixed));
        mixed.map_err(|error| self.failed("mix features", error))
    }

    /// Returns the parameters for training.
    ///
    /// # Errors
    ///
    /// Returns an error if the mixer cannot be trained.
    pub fn training(&self) -> Result<Training, CallError> {
        match self.object.training() {
            Ok(object) => Ok(Training::new(&self.plugin, &self.request.model.id, object)),
            Err(error) => Err(self.failed("train", error)),
        }
    }

    /// Does the same as [`Self::forward`], and keeps the intermediate values for [`MixerTape::backward`].
    ///
    /// # Errors
    ///
    /// The same as [`Self::forward`]. Also returns an error if training has not begun.
    pub fn forward_train(
        self: &Arc<Self>,
        features: &[TensorView<'_>],
    ) -> Result<(VisualTokens, MixerTape), CallError> {
        let call = RunningCall::begin();
        let output = self.object.forward_train(call.call(), features);
        let (mixed, id) = output.map_err(|error| self.failed("mix features", error))?;
        // Created before the check, so that the plugin's tape is always freed.
        let tape = MixerTape {
            mixer: Arc::clone(self),
            id,
            shapes: features.iter().map(|view| view.shape().to_vec()).collect(),
        };
        match self.checked(features, mixed) {
            Ok(mixed) => Ok((mixed, tape)),
            Err(error) => Err(self.failed("mix features", error)),
        }
    }

    /// Adds the names of the plugin, the operation and the mixer to an error.
    pub(crate) fn failed(&self, doing: &str, error: PluginError) -> CallError {
        let id = &self.request.model.id;
        CallError::new(&self.plugin, &format!("{doing} with `{id}`"), error)
    }

    /// Checks that the result has the shape that the plugin described.
    fn checked(
        &self,
        features: &[TensorView<'_>],
        mixed: VisualTokens,
    ) -> Result<VisualTokens, PluginError> {
        let first = features.first().and_then(|view| view.shape().first());
        let batch = first.copied().unwrap_or_default();
        let width = self.request.llm_width as usize;
        has_shape(&mixed.tokens, &[batch, self.info.tokens as usize, width])?;
        match (&mixed.weights, self.info.weighs) {
            (Some(weights), true) => has_shape(weights, &[batch, features.len()])?,
            (None, false) => {}
            (found, _) => {
                return Err(bug(format!(
                    "it described a mixer {} weights for the encoders, and returned {}",
                    if self.info.weighs { "with" } else { "without" },
                    if found.is_some() { "some" } else { "none" }
                )));
            }
        }
        Ok(mixed)
    }
}

fn bug(what: String) -> PluginError {
    PluginError::new(ErrorKind::INTERNAL, format!("a bug in the plugin: {what}"))
}

fn has_shape(tensor: &TensorBuf, expected: &[usize]) -> Result<(), PluginError> {
    if tensor.view().shape() == expected && tensor.view().f32s().is_ok() {
        return Ok(());
    }
    Err(bug(format!(
        "expected f32 {expected:?}, but it returned {:?}",
        tensor.view()
    )))
}

/// The intermediate values of a forward pass that its backward pass needs. They are stored in the plugin, and
/// freed when the tape is dropped.
pub struct MixerTape {
    mixer: Arc<PluginMixer>,
    id: TapeId,
    shapes: Vec<Vec<usize>>,
}

impl MixerTape {
    /// Runs the backward pass for `gradient`, the gradient of the visual tokens, accumulates the gradients of the
    /// parameters, and returns the gradient of each encoder's features.
    ///
    /// # Shapes
    ///
    /// `[batch, tokens, llm_width]` → for each encoder `[batch, temporal · spatial, width]`, or `[0]` if there is none
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, an error if a gradient has another shape than the features, and any error of
    /// `ready`.
    pub fn backward(
        self,
        gradient: TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, CallError> {
        let (call, object) = (RunningCall::begin(), &self.mixer.object);
        let gradients = object.backward(call.call(), self.id, gradient, ready);
        let checked = gradients.and_then(|gradients| {
            if gradients.len() != self.shapes.len() {
                let (expected, found) = (self.shapes.len(), gradients.len());
                return Err(bug(format!("expected {expected} gradients, found {found}")));
            }
            for (gradient, shape) in gradients.iter().zip(&self.shapes) {
                // This shape stands for a gradient that does not exist.
                if gradient.view().shape() != [0] {
                    has_shape(gradient, shape)?;
                }
            }
            Ok(gradients)
        });
        checked.map_err(|error| self.mixer.failed("run the backward pass", error))
    }
}

impl Drop for MixerTape {
    fn drop(&mut self) {
        // After `backward`, this has no effect.
        self.mixer.object.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use merv_plugin_api::{
        AdamWStep, Device, Mixer, MixerInput, ModelSource, ParameterInfo, ParameterRange, Ranges,
        StatePart, TakeTensor, Trainable, TrainableMixer, TrainingOptions, VisitTensor,
    };

    /// A mixer for one feature of one encoder that returns gradients of these shapes.
    struct Returns(Vec<Vec<usize>>);

    impl Mixer for Returns {
        fn info(&self) -> MixerInfo {
            MixerInfo::new(1)
        }

        fn forward(&self, _: &[TensorView<'_>]) -> Result<VisualTokens, PluginError> {
            Ok(VisualTokens::new(TensorBuf::from_vec(
                vec![0.0f32; 2],
                &[1, 1, 2],
            )?))
        }
    }

    impl TrainableMixer for Returns {
        type Tape = ();

        fn forward_train(
            &self,
            features: &[TensorView<'_>],
        ) -> Result<(VisualTokens, ()), PluginError> {
            Ok((self.forward(features)?, ()))
        }

        fn backward(
            &self,
            (): (),
            _: &TensorView<'_>,
            _: &mut ReadyGradients<'_>,
        ) -> Result<Vec<TensorBuf>, PluginError> {
            let shapes = self.0.iter();
            let zeros = |shape: &Vec<usize>| vec![0.0f32; shape.iter().product()];
            shapes
                .map(|shape| TensorBuf::from_vec(zeros(shape), shape))
                .collect()
        }
    }

    impl Trainable for Returns {
        fn begin_training(&self, _: &TrainingOptions) -> Result<(), PluginError> {
            Ok(())
        }

        fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
            Ok(Vec::new())
        }

        fn visit(
            &self,
            _: StatePart,
            _: Ranges<'_>,
            _: &mut VisitTensor<'_>,
        ) -> Result<(), PluginError> {
            Ok(())
        }

        fn gradient_squares(&self, _: Ranges<'_>) -> Result<f64, PluginError> {
            Ok(0.0)
        }

        fn clear_gradients(&self) -> Result<(), PluginError> {
            Ok(())
        }

        fn apply_adamw(&self, _: &AdamWStep, _: Ranges<'_>) -> Result<(), PluginError> {
            Ok(())
        }

        fn export(
            &self,
            _: StatePart,
            _: Ranges<'_>,
            _: &mut TakeTensor<'_>,
        ) -> Result<(), PluginError> {
            Ok(())
        }

        fn import(
            &self,
            _: StatePart,
            _: ParameterRange,
            _: &TensorView<'_>,
        ) -> Result<(), PluginError> {
            Ok(())
        }
    }

    #[test]
    fn gradients_of_other_shapes_are_a_bug_of_the_plugin() {
        let backward = |shapes: &[&[usize]]| {
            let model = ModelSource::new("m", Device::CPU);
            let inputs = vec![MixerInput::new("e", 3, [1, 1])];
            let request = MixerRequest::new(model, inputs, 2);
            let shapes = shapes.iter().map(|shape| shape.to_vec()).collect();
            let object = MixerObject::trainable(Returns(shapes));
            let mixer = Arc::new(PluginMixer::new("p", &request, MixerInfo::new(1), object));
            let features = [TensorView::new(&[0.0f32; 3], &[1, 1, 3]).unwrap()];
            let (_, tape) = mixer.forward_train(&features).unwrap();
            let gradient = TensorView::new(&[0.0f32; 2], &[1, 1, 2]).unwrap();
            tape.backward(gradient, &mut |_| Ok(()))
        };
        for right in [&[1, 1, 3][..], &[0]] {
            let found = backward(&[right]).unwrap();
            assert_eq!(found[0].view().shape(), right);
        }
        for (wrong, words) in [
            (&[&[1, 3][..]][..], "expected f32 [1, 1, 3]"),
            (&[&[1, 1, 2]], "expected f32 [1, 1, 3]"),
            (&[], "expected 1 gradients, found 0"),
            (&[&[1, 1, 3], &[0]], "expected 1 gradients, found 2"),
        ] {
            let error = backward(wrong).unwrap_err().to_string();
            assert!(error.contains("a bug in the plugin"), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }
}
