//! The host's own mixer behind the traits that mixers of plugins implement ([`merv_plugin_api::Mixer`],
//! [`merv_plugin_api::TrainableMixer`]). Who trains it does not know the graph of its gradients.

use super::{
    forward::{Mixed, Mixer},
    fusion::passed_on,
    learned::Learned,
};
use crate::plugin::{CallError, Training};
use candle_core::{Tensor, Var};
use merv_plugin_api::{
    AdamWStep, MixerInfo, ParameterInfo, ParameterRange, Ranges, ReadyGradients, StatePart,
    TakeTensor, TensorBuf, TensorView, TensorViewMut, Trainable, TrainableMixer, TrainingOptions,
    VisitTensor, VisualTokens,
};
use merv_plugin_sdk::{
    PluginError, Result,
    tensor::{export, import},
};
use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The host's mixer, as an implementation of the API's traits. Its parameters are those of the projectors, then those of
/// the fusion, also if a plugin brings the fusion.
pub struct CoreMixer {
    mixer: Mixer,
    state: Mutex<Option<State>>,
}

/// What exists since training has begun.
struct State {
    options: TrainingOptions,
    learned: Learned,
    /// The fusion, if a plugin brings it. Its parameters come last.
    fusion: Option<Training>,
}

/// What a forward pass records.
pub struct MixerTape {
    /// The features of each encoder, if their gradients are needed.
    inputs: Vec<Option<Var>>,
    /// The visual tokens, with the graph that made them.
    fused: Tensor,
}

impl CoreMixer {
    /// Wraps a mixer.
    pub fn new(mixer: Mixer) -> Self {
        Self {
            mixer,
            state: Mutex::new(None),
        }
    }

    /// Prepares for training, as [`Trainable::begin_training`] does.
    ///
    /// # Errors
    ///
    /// The error of the plugin that brings the fusion, if it cannot be trained.
    pub fn begin(&self, options: &TrainingOptions) -> std::result::Result<(), CallError> {
        let fusion = self.mixer.begin_training(options)?;
        let mut state = self.lock();
        // Training that has begun keeps its gradients and moments.
        let learned = match state.take() {
            Some(State { learned, .. }) => learned,
            None => Learned::new(self.mixer.parameters()),
        };
        *state = Some(State {
            options: options.clone(),
            learned,
            fusion,
        });
        Ok(())
    }

    /// Does what [`TrainableMixer::forward_train`] does, for features that are tensors already.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, temporal · spatial, width]` → tokens `[batch, tokens, llm_width]` and, if the fusion has
    /// weights, `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// When training has not begun, or the number or a shape of the features is wrong.
    pub fn record(&self, features: Vec<Tensor>) -> Result<(VisualTokens, MixerTape)> {
        // A fusion of a plugin is an operation on features: without a variable before it, it would not be differentiated.
        let differentiates =
            self.with(|state| Ok(state.options.input_gradients || state.fusion.is_some()))?;
        let (mut tensors, mut inputs) = (Vec::new(), Vec::new());
        for values in features {
            let var = differentiates.then(|| Var::from_tensor(&values));
            let var = var.transpose()?;
            tensors.push(var.as_ref().map_or(values, |var| var.as_tensor().clone()));
            inputs.push(var);
        }
        let mixed = self.mixer.mix(&tensors)?;
        let tokens = visual_tokens(&mixed)?;
        let fused = mixed.fused;
        Ok((tokens, MixerTape { inputs, fused }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        // A panic leaves only numbers behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `body` with the state.
    fn with<R>(&self, body: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        match self.lock().as_mut() {
            Some(state) => body(state),
            None => Err(PluginError::invalid("training has not begun")),
        }
    }
}

impl State {
    fn is_trained(&self) -> bool {
        self.options.trainable
    }

    /// Calls `own` with the ranges of the host's parameters, and `of_fusion` with those of the fusion of a plugin.
    fn divided<R>(
        &mut self,
        ranges: Ranges<'_>,
        own: impl FnOnce(&mut Learned, Ranges<'_>) -> Result<R>,
        of_fusion: impl FnOnce(&Training, Ranges<'_>) -> std::result::Result<R, CallError>,
    ) -> Result<(Option<R>, Option<R>)> {
        if !self.is_trained() {
            return Ok((None, None));
        }
        let count = self.learned.len() as u32;
        let Some(fusion) = &self.fusion else {
            return Ok((Some(own(&mut self.learned, ranges)?), None));
        };
        let (mut here, mut there) = (Vec::new(), Vec::new());
        let parts = match ranges {
            Ranges::All => (Ranges::All, Ranges::All),
            Ranges::Only(list) => {
                for range in list {
                    match range.parameter.checked_sub(count) {
                        None => here.push(*range),
                        Some(parameter) => there.push(ParameterRange {
                            parameter,
                            ..*range
                        }),
                    }
                }
                (Ranges::Only(&here), Ranges::Only(&there))
            }
        };
        let own = own(&mut self.learned, parts.0)?;
        let of_fusion = of_fusion(fusion, parts.1).map_err(passed_on)?;
        Ok((Some(own), Some(of_fusion)))
    }
}

impl Trainable for CoreMixer {
    fn begin_training(&self, options: &TrainingOptions) -> Result<()> {
        if let Some(key) = options.extra.keys().next() {
            return Err(PluginError::unsupported(format!(
                "the mixer does not know the training option `{key}`"
            )));
        }
        self.begin(options).map_err(passed_on)
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>> {
        self.with(|state| {
            if !state.is_trained() {
                return Ok(Vec::new());
            }
            let mut infos = state.learned.infos();
            if let Some(fusion) = &state.fusion {
                infos.extend(fusion.parameters().map_err(passed_on)?);
            }
            Ok(infos)
        })
    }

    fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<()> {
        self.with(|state| {
            let first = state.learned.len() as u32;
            let visit = RefCell::new(visit);
            let visited = state.divided(
                ranges,
                |learned, ranges| learned.visit(part, ranges, &mut **visit.borrow_mut()),
                |fusion, ranges| {
                    let mut visit = visit.borrow_mut();
                    let mut visit = |index, values: TensorViewMut<'_>| visit(first + index, values);
                    fusion.visit(part, ranges, &mut visit)
                },
            );
            visited.map(|_| ())
        })
    }

    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64> {
        self.with(|state| {
            let (own, of_fusion) = state.divided(
                ranges,
                |learned, ranges| learned.gradient_squares(ranges),
                Training::gradient_squares,
            )?;
            Ok(own.unwrap_or_default() + of_fusion.unwrap_or_default())
        })
    }

    fn clear_gradients(&self) -> Result<()> {
        self.with(|state| {
            state.learned.clear_gradients();
            match &state.fusion {
                Some(fusion) => fusion.clear_gradients().map_err(passed_on),
                None => Ok(()),
            }
        })
    }

    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<()> {
        self.with(|state| {
            let applied = state.divided(
                ranges,
                |learned, ranges| learned.apply_adamw(step, ranges),
                |fusion, ranges| fusion.apply_adamw(step, ranges),
            );
            applied.map(|_| ())
        })
    }

    fn export(&self, part: StatePart, ranges: Ranges<'_>, take: &mut TakeTensor<'_>) -> Result<()> {
        self.with(|state| {
            let first = state.learned.len() as u32;
            let take = RefCell::new(take);
            let exported = state.divided(
                ranges,
                |learned, ranges| learned.export(part, ranges, &mut **take.borrow_mut()),
                |fusion, ranges| {
                    let mut take = take.borrow_mut();
                    fusion.export(part, ranges, &mut |index, values| {
                        take(first + index, values)
                    })
                },
            );
            exported.map(|_| ())
        })
    }

    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<()> {
        self.with(|state| {
            let imported = state.divided(
                Ranges::Only(&[range]),
                |learned, ranges| match ranges {
                    Ranges::Only([range]) => learned.import(part, *range, values),
                    _ => Ok(()),
                },
                |fusion, ranges| match ranges {
                    Ranges::Only([range]) => fusion.import(part, *range, *values),
                    _ => Ok(()),
                },
            );
            imported.map(|_| ())
        })
    }
}

/// Returns the output of a mixer as the API has it.
fn visual_tokens(mixed: &Mixed) -> Result<VisualTokens> {
    let tokens = VisualTokens::new(export(&mixed.fused)?);
    Ok(match &mixed.weights {
        Some(weights) => tokens.weighted(export(weights)?),
        None => tokens,
    })
}

impl merv_plugin_api::Mixer for CoreMixer {
    fn info(&self) -> MixerInfo {
        self.mixer.info().clone()
    }

    fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens> {
        let features = features.iter().map(import).collect::<Result<Vec<_>>>()?;
        visual_tokens(&self.mixer.mix(&features)?)
    }
}

impl TrainableMixer for CoreMixer {
    type Tape = MixerTape;

    fn forward_train(&self, features: &[TensorView<'_>]) -> Result<(VisualTokens, MixerTape)> {
        self.record(features.iter().map(import).collect::<Result<_>>()?)
    }

    fn backward(
        &self,
        tape: MixerTape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>> {
        if gradient.shape() != tape.fused.dims() {
            return Err(PluginError::invalid(format!(
                "expected a gradient of the visual tokens {:?}, found {:?}",
                tape.fused.dims(),
                gradient.shape()
            )));
        }
        // The derivative of this sum by the visual tokens is `gradient`.
        let sum = (&tape.fused * import(gradient)?)?.sum_all()?;
        let gradients = sum.backward()?;
        let trained = self.with(|state| {
            state.learned.add(&gradients)?;
            Ok(state.is_trained())
        })?;
        if trained {
            // The plugin of the fusion added its gradients during the backward pass.
            let all: Vec<u32> = (0..self.parameters()?.len() as u32).collect();
            ready(&all)?;
        }
        let asked = self.with(|state| Ok(state.options.input_gradients))?;
        let inputs = tape.inputs.iter();
        let inputs = inputs.map(|input| {
            let gradient = input
                .as_ref()
                .filter(|_| asked)
                .and_then(|input| gradients.get(input.as_tensor()));
            match gradient {
                Some(gradient) => export(gradient),
                None => TensorBuf::from_vec(Vec::<f32>::new(), &[0]),
            }
        });
        inputs.collect()
    }
}
