//! Fusions and whole mixers that plugins bring. In the graph of the gradients, each is one operation.

use super::fused::Fused;
use crate::{
    mixer::{model::FusionPlugin, parameters::Scope},
    plugin::{CallError, MixerTape, PluginMixer, Training, description},
};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use merv_architectures::mixer::{Cost, Init};
use merv_plugin_api::{MixerWeights, TensorBuf, TensorView, TrainingOptions, VisualTokens};
use merv_plugin_sdk::{PluginError, Result};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// A loaded fusion of a plugin.
pub struct PluginFusion {
    mixer: Arc<PluginMixer>,
    trains: AtomicBool,
}

impl PluginFusion {
    /// Takes its tensors from `scope`, whose names begin with `prefix`. Returns `None` if only the specifications of
    /// tensors are collected.
    ///
    /// # Errors
    ///
    /// When the plugin reports an error, or describes a tensor that does not belong to a fusion.
    pub fn new(plugin: &FusionPlugin, prefix: &str, scope: &Scope<'_>) -> Result<Option<Self>> {
        let FusionPlugin {
            library,
            request,
            info,
        } = plugin;
        let mut stored = Vec::new();
        for parameter in &info.parameters {
            let name = parameter.name.strip_prefix(prefix).ok_or_else(|| {
                PluginError::invalid(format!(
                    "plugin `{}` names a tensor of `{}` `{}`; expected a name that begins with `{prefix}`",
                    library.manifest().name,
                    request.model.id,
                    parameter.name
                ))
            })?;
            // The plugin initialises new tensors, so the initial values are not used here.
            if let Some(values) = scope.stored(name, &parameter.shape, Init::Zeros) {
                stored.push((parameter, values));
            }
        }
        if scope.only_collects() {
            return Ok(None);
        }
        let names: Vec<String> = stored.iter().map(|(info, _)| info.name.clone()).collect();
        let values = stored.iter();
        let values = values.map(|(info, values)| TensorView::new(values, &info.shape));
        let values = values.collect::<Result<Vec<_>>>()?;
        let weights = MixerWeights::new(&names, &values, scope.seed())?;
        let mixer = library.load_mixer(request, info, &weights);
        Ok(Some(Self {
            mixer: Arc::new(mixer.map_err(passed_on)?),
            trains: AtomicBool::new(false),
        }))
    }

    /// Prepares the fusion for training.
    ///
    /// # Errors
    ///
    /// When it cannot be trained.
    pub fn begin_training(
        &self,
        options: &TrainingOptions,
    ) -> std::result::Result<Training, CallError> {
        let training = self.mixer.training()?;
        // The projectors before the fusion are trained, even if the encoders are not.
        training.begin(&options.clone().input_gradients(true))?;
        if options.trainable {
            let described = &self.mixer.info().parameters;
            let found = training.parameters()?;
            description::same_parameters(described, &found)
                .map_err(|error| self.mixer.failed("train", error))?;
        }
        self.trains.store(true, Ordering::Relaxed);
        Ok(training)
    }

    /// Combines the projected features of all encoders.
    ///
    /// # Shapes
    ///
    /// For each encoder `[batch, tokens, llm_width]` → `[batch, visual tokens, llm_width]`, and perhaps weights
    /// `[batch, encoders]`
    ///
    /// # Errors
    ///
    /// The plugin's error.
    pub fn forward(&self, projected: &[Tensor]) -> Result<Fused> {
        let flat = projected.iter().map(Tensor::flatten_all);
        let joined = Tensor::cat(&flat.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let side = Arc::new(Mutex::new(Side::default()));
        let fused = joined.apply_op1(Operation {
            mixer: Arc::clone(&self.mixer),
            shapes: projected
                .iter()
                .map(|tensor| tensor.dims().to_vec())
                .collect(),
            trains: self.trains.load(Ordering::Relaxed),
            side: Arc::clone(&side),
        });
        let mut side = side.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = side.error.take() {
            return Err(passed_on(error));
        }
        Ok(Fused {
            tokens: fused?,
            weights: side.weights.take(),
        })
    }
}

/// Returns the cost of a fusion.
pub fn cost(plugin: &FusionPlugin) -> Cost {
    let elements = plugin
        .info
        .parameters
        .iter()
        .map(|info| info.elements() as u64);
    Cost {
        parameters: elements.fold(0, u64::saturating_add),
        macs: plugin.info.macs_per_clip,
    }
}

/// Passes a plugin's error on as one of the mixer, with its causes.
pub fn passed_on(error: CallError) -> PluginError {
    let mut passed = PluginError::new(error.failure.kind, &error);
    if let Some(source) = std::error::Error::source(&error) {
        passed = passed.caused_by(source);
    }
    passed
}

/// What an operation gives beside its result.
#[derive(Default)]
struct Side {
    weights: Option<Tensor>,
    tape: Option<MixerTape>,
    error: Option<CallError>,
}

/// One forward pass, from the elements of all projected features to the visual tokens.
struct Operation {
    mixer: Arc<PluginMixer>,
    /// The shape of the features of each encoder.
    shapes: Vec<Vec<usize>>,
    trains: bool,
    side: Arc<Mutex<Side>>,
}

impl Operation {
    fn run(&self, features: &[f32]) -> std::result::Result<VisualTokens, CallError> {
        let mut rest = features;
        let views = self.shapes.iter().map(|shape| {
            let (part, after) = rest.split_at(shape.iter().product());
            rest = after;
            TensorView::new(part, shape)
        });
        let views = views.collect::<Result<Vec<_>>>();
        let views = views.map_err(|error| self.mixer.failed("mix features", error))?;
        if !self.trains {
            return self.mixer.forward(&views);
        }
        let (mixed, tape) = PluginMixer::forward_train(&self.mixer, &views)?;
        self.side().tape = Some(tape);
        Ok(mixed)
    }

    fn side(&self) -> std::sync::MutexGuard<'_, Side> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an error with its kind. candle only passes a message on.
    fn failed(&self, error: CallError) -> candle_core::Error {
        let message = candle_core::Error::Msg(error.to_string());
        self.side().error = Some(error);
        message
    }
}

fn values(tensor: &TensorBuf) -> candle_core::Result<Vec<f32>> {
    // `PluginMixer` checked dtype and device.
    let view = tensor.view();
    let values = view
        .f32s()
        .map_err(|error| candle_core::Error::Msg(error.message))?;
    Ok(values.to_vec())
}

impl CustomOp1 for Operation {
    fn name(&self) -> &'static str {
        "plugin-fusion"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let all = storage.as_slice::<f32>()?;
        let (start, end) = layout.contiguous_offsets().unwrap_or((0, 0));
        let mixed = self.run(&all[start..end]);
        let mixed = mixed.map_err(|error| self.failed(error))?;
        if let Some(weights) = &mixed.weights {
            let shape = weights.view().shape().to_vec();
            let tensor = Tensor::from_vec(values(weights)?, shape, &Device::Cpu)?;
            self.side().weights = Some(tensor);
        }
        let shape = Shape::from(mixed.tokens.view().shape().to_vec());
        Ok((CpuStorage::F32(values(&mixed.tokens)?), shape))
    }

    fn bwd(
        &self,
        features: &Tensor,
        _fused: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let Some(tape) = self.side().tape.take() else {
            let message = "the fusion of a plugin was not prepared for training";
            return Err(candle_core::Error::Msg(message.to_owned()));
        };
        let from = gradient.flatten_all()?.to_vec1::<f32>()?;
        let view = TensorView::new(&from, gradient.dims());
        let view = view.map_err(|error| candle_core::Error::Msg(error.message))?;
        let gradients = tape.backward(view, &mut |_| Ok(()));
        let gradients = gradients.map_err(candle_core::Error::wrap)?;
        let parts = gradients.iter().zip(&self.shapes).map(|(gradient, shape)| {
            // A gradient that does not exist is zero.
            match gradient.view().shape() {
                [0] => Ok(vec![0.0; shape.iter().product()]),
                _ => values(gradient),
            }
        });
        let joined = parts.collect::<candle_core::Result<Vec<_>>>()?.concat();
        Ok(Some(Tensor::from_vec(
            joined,
            features.dims(),
            &Device::Cpu,
        )?))
    }
}
