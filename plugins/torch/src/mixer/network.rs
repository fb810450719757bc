//! A whole mixer, as the host calls it.

use super::{
    fusion::{Fused, Fusion},
    projector::Projector,
    scope::Scope,
};
use crate::{
    failure::Result,
    learned::{Learned, Parameter},
    model::Model,
    placement::Placement,
    tensor::{given_in_main_memory, input, shape},
};
use merv_architectures::mixer::{
    Cost, EncoderShape, FusionKind, MixerKind,
    fusion::{self, PUBLISHED_QUERY_WIDTH},
    projector,
};
use merv_plugin_api::{
    Mixer, MixerInfo, MixerObject, MixerRequest, MixerWeights, PluginError, ReadyGradients,
    TensorBuf, TensorView, TrainableMixer, VisualTokens,
};
use std::{cell::RefCell, fmt::Display, str::FromStr};
use tch::{Tensor, no_grad_guard};

/// The id of the mixer. Its options are those of a registry's `[mixer]`, and `query_width`.
pub const ID: &str = "merv-mixer";

/// The number of tokens per time step after pooling, unless an option says otherwise.
const TOKEN_LENGTH: usize = 64;

/// What is mixed how.
struct Plan {
    kind: MixerKind,
    encoders: Vec<EncoderShape>,
    llm_width: usize,
    query_width: usize,
    tokens: usize,
}

impl Plan {
    fn new(request: &MixerRequest) -> Result<Self, PluginError> {
        if request.model.id != ID {
            let message = format!("expected the mixer {ID}; found `{}`", request.model.id);
            return Err(PluginError::invalid(message));
        }
        let encoders = request.inputs.iter().map(|input| EncoderShape {
            width: input.width as usize,
            temporal: input.temporal as usize,
            spatial: input.spatial as usize,
        });
        let encoders: Vec<_> = encoders.collect();
        let mut kind = MixerKind {
            projector: required(request, "projector")?,
            fusion: required(request, "fusion")?,
            token_length: option(request, "token_length")?.unwrap_or(TOKEN_LENGTH),
            visual_feature_length: 0,
        };
        let count = encoders.len();
        let runnable = kind.projector.runnable(count);
        runnable
            .and_then(|()| kind.fusion.runnable(count))
            .map_err(PluginError::invalid)?;
        let projected = encoders.iter();
        let projected = projected.map(|shape| kind.projected_tokens(shape.temporal, shape.spatial));
        let projected: Vec<usize> = projected.collect();
        let most = projected.iter().copied().max().unwrap_or(0);
        kind.visual_feature_length = option(request, "visual_feature_length")?.unwrap_or(most);
        let fits = |&tokens: &usize| {
            tokens == kind.visual_feature_length
                || (tokens == 1 && kind.fusion.takes_single_tokens())
        };
        let free = [FusionKind::First, FusionKind::Concat, FusionKind::None];
        if !free.contains(&kind.fusion) && !projected.iter().all(fits) {
            return Err(PluginError::invalid(format!(
                "`{}` gives the encoders {projected:?} tokens, but `{}` mixes {} of each; set `token_length` and \
                 `visual_feature_length` in `options`",
                kind.projector, kind.fusion, kind.visual_feature_length
            )));
        }
        Ok(Self {
            tokens: kind.visual_tokens(&projected),
            kind,
            encoders,
            llm_width: request.llm_width as usize,
            query_width: option(request, "query_width")?.unwrap_or(PUBLISHED_QUERY_WIDTH),
        })
    }

    fn build(&self, scope: &Scope<'_>) -> Result<Network> {
        let projectors = self.encoders.iter().enumerate().map(|(index, &encoder)| {
            let scope = scope.pp("projectors").pp(index);
            Projector::new(self.kind, encoder, self.llm_width, &scope)
        });
        let (count, width) = (self.encoders.len(), self.llm_width);
        Ok(Network {
            projectors: projectors.collect::<Result<_>>()?,
            fusion: Fusion::new(self.kind, count, width, self.query_width, scope)?,
            tokens: self.kind.visual_feature_length,
        })
    }

    fn cost(&self) -> Cost {
        let (kind, width) = (self.kind, self.llm_width);
        let encoders = self.encoders.iter();
        let projectors: Cost = encoders
            .map(|&shape| projector::cost(kind, shape, width))
            .sum();
        let (count, tokens) = (self.encoders.len(), kind.visual_feature_length);
        projectors + fusion::cost(kind.fusion, count, width, tokens, self.query_width)
    }

    fn describe(&self, request: &MixerRequest, placement: Placement) -> Result<MixerInfo> {
        let taken = RefCell::default();
        self.build(&Scope::root(None, placement, &taken))?;
        let tokens = u32::try_from(self.tokens).unwrap_or(u32::MAX);
        let mut info = MixerInfo::new(tokens).device(placement.device);
        info.dtype = placement.precision.dtype();
        for parameter in taken.into_inner() {
            info.parameters.push(parameter.info);
        }
        info.weighs = self.kind.fusion.weighs();
        // The projected features of all encoders.
        let features = self
            .encoders
            .len()
            .saturating_mul(self.kind.visual_feature_length);
        let bytes = features
            .saturating_mul(self.llm_width)
            .saturating_mul(size_of::<f32>());
        info = info.cost(self.cost().macs, bytes as u64);
        for key in [
            "projector",
            "fusion",
            "token_length",
            "visual_feature_length",
            "query_width",
        ] {
            if let Some(value) = request.model.options.get(key) {
                info = info.option(key, value);
            }
        }
        Ok(info)
    }
}

fn option<T: FromStr<Err: Display>>(
    request: &MixerRequest,
    key: &str,
) -> Result<Option<T>, PluginError> {
    let Some(text) = request.model.options.get(key) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|error| {
        PluginError::invalid(format!(
            "`{key}` in `options` of `{ID}` is `{text}`: {error}"
        ))
    })
}

fn required<T: FromStr<Err: Display>>(request: &MixerRequest, key: &str) -> Result<T, PluginError> {
    option(request, key)?.ok_or_else(|| {
        PluginError::invalid(format!(
            "`{ID}` needs the option `{key}`, as in `fusion = {{ id = \"{ID}\", options = {{ projector = \
             \"3davg+linear\", fusion = \"cross_attention_avg_lq\" }} }}`"
        ))
    })
}

/// Describes the mixer that is requested.
pub fn describe(request: &MixerRequest) -> Result<MixerInfo> {
    let placement = Placement::of(&request.model)?;
    Plan::new(request)?.describe(request, placement)
}

/// Loads the mixer that is requested.
pub fn load(request: &MixerRequest, weights: &MixerWeights<'_>) -> Result<MixerObject> {
    let placement = Placement::of(&request.model)?;
    let plan = Plan::new(request)?;
    let info = plan.describe(request, placement)?;
    let taken: RefCell<Vec<Parameter>> = RefCell::default();
    let network = {
        let _guard = no_grad_guard();
        plan.build(&Scope::root(Some(weights), placement, &taken))?
    };
    let learned = Learned::new(taken.into_inner(), placement.device);
    Ok(MixerObject::trainable(Model::new(info, network, learned)))
}

pub struct Network {
    projectors: Vec<Projector>,
    fusion: Fusion,
    /// The number of tokens of an encoder, unless it has only one.
    tokens: usize,
}

impl Network {
    fn forward(&self, features: &[Tensor]) -> Result<Fused> {
        let projected = self.projectors.iter().zip(features);
        let projected = projected.map(|(projector, features)| projector.forward(features));
        self.fusion
            .forward(&projected.collect::<Result<Vec<_>>>()?, self.tokens)
    }
}

impl Model<MixerInfo, Network> {
    /// Takes features to the device, if there are those of every encoder.
    fn features(&self, features: &[TensorView<'_>], network: &Network) -> Result<Vec<Tensor>> {
        let (expected, found) = (network.projectors.len(), features.len());
        if expected != found {
            let message = format!("expected the features of {expected} encoders, found {found}");
            return Err(PluginError::invalid(message).into());
        }
        features
            .iter()
            .map(|view| input(view, self.info.device))
            .collect()
    }
}

fn visual_tokens(fused: &Fused) -> Result<VisualTokens> {
    let tokens = VisualTokens::new(given_in_main_memory(&fused.tokens)?);
    Ok(match &fused.weights {
        Some(weights) => tokens.weighted(given_in_main_memory(weights)?),
        None => tokens,
    })
}

impl Mixer for Model<MixerInfo, Network> {
    fn info(&self) -> MixerInfo {
        self.info.clone()
    }

    fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens, PluginError> {
        let inner = self.read();
        let _guard = no_grad_guard();
        let features = self.features(features, &inner.network)?;
        Ok(visual_tokens(&inner.network.forward(&features)?)?)
    }
}

/// The features, and the visual tokens with the graph that made them.
pub struct Tape {
    features: Vec<Tensor>,
    tokens: Tensor,
}

impl TrainableMixer for Model<MixerInfo, Network> {
    type Tape = Tape;

    fn forward_train(
        &self,
        features: &[TensorView<'_>],
    ) -> Result<(VisualTokens, Self::Tape), PluginError> {
        let inner = self.read();
        let differentiates = inner.learned.options()?.input_gradients;
        let features = self.features(features, &inner.network)?;
        let recorded = || -> Result<(VisualTokens, Tape)> {
            for features in &features {
                let _ = features.f_set_requires_grad(differentiates)?;
            }
            let fused = inner.network.forward(&features)?;
            let visual = visual_tokens(&fused)?;
            Ok((
                visual,
                Tape {
                    features,
                    tokens: fused.tokens,
                },
            ))
        };
        Ok(recorded()?)
    }

    fn backward(
        &self,
        tape: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError> {
        let expected = shape(&tape.tokens);
        if gradient.shape() != expected {
            return Err(PluginError::invalid(format!(
                "expected a gradient of the visual tokens, {expected:?}, found {:?}",
                gradient.shape()
            )));
        }
        let gradient = input(gradient, self.info.device)?;
        let learned = &self.read().learned;
        let all = 0..learned.trained()?.len();
        let inputs: Vec<&Tensor> = match learned.options()?.input_gradients {
            true => tape.features.iter().collect(),
            false => Vec::new(),
        };
        let mut found = learned.backward(&tape.tokens, &gradient, all, &inputs)?;
        learned.all_ready(ready)?;
        found.resize_with(tape.features.len(), Tensor::new);
        // There is no gradient of features that the visual tokens do not depend on.
        let gradients = found.iter().map(|gradient| match gradient.defined() {
            true => Ok(given_in_main_memory(gradient)?),
            false => TensorBuf::from_vec(Vec::<f32>::new(), &[0]),
        });
        gradients.collect()
    }
}
