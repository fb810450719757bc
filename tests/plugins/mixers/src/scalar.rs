//! A fusion: the sum of all encoders' features, weighted with the softmax of one learned number per encoder.

use crate::{
    mean_token::dot,
    model::{Computation, Features, Gradients, Model},
};
use merv_plugin_api::{
    MixerInfo, MixerRequest, MixerWeights, PluginError, TensorBuf, TensorView, VisualTokens,
};

const NAME: &str = "feature_fusion.scalar";

pub struct Scalar;

pub fn describe(request: &MixerRequest) -> Result<MixerInfo, PluginError> {
    let tokens = request.inputs.first().map_or(0, |input| input.spatial);
    if request.inputs.iter().any(|input| input.spatial != tokens) {
        return Err(PluginError::invalid(
            "expected encoders with the same number of tokens",
        ));
    }
    let encoders = request.inputs.len();
    Ok(MixerInfo::new(tokens).parameter(NAME, &[encoders]).weighs())
}

pub fn load(
    request: &MixerRequest,
    weights: &MixerWeights<'_>,
) -> Result<Model<Scalar>, PluginError> {
    let zeros = |parameter: &merv_plugin_api::ParameterInfo| vec![0.0; parameter.elements()];
    Model::load(describe(request)?, Scalar, weights, zeros)
}

fn softmax(learned: &[f32]) -> Vec<f32> {
    let largest = learned.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = learned.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

impl Computation for Scalar {
    fn forward(
        &self,
        parameters: &[&[f32]],
        features: &[TensorView<'_>],
    ) -> Result<VisualTokens, PluginError> {
        let weights = softmax(parameters[0]);
        if features.len() != weights.len() {
            return Err(PluginError::invalid("another number of encoders"));
        }
        let shape = features.first().map_or(&[][..], |view| view.shape());
        let mut sum = vec![0.0f32; shape.iter().product()];
        for (view, weight) in features.iter().zip(&weights) {
            let pairs = sum.iter_mut().zip(view.f32s()?);
            pairs.for_each(|(sum, x)| *sum += weight * x);
        }
        let batch = shape.first().copied().unwrap_or_default();
        let rows = weights.repeat(batch);
        let rows = TensorBuf::from_vec(rows, &[batch, weights.len()])?;
        Ok(VisualTokens::new(TensorBuf::from_vec(sum, shape)?).weighted(rows))
    }

    fn backward(
        &self,
        parameters: &[&[f32]],
        features: &[Features],
        gradient: &[f32],
    ) -> Result<Gradients, PluginError> {
        let weights = softmax(parameters[0]);
        let products = features.iter().map(|of| dot(&of.values, gradient));
        let products: Vec<f32> = products.collect();
        let mean = dot(&weights, &products);
        let pairs = weights.iter().zip(&products);
        let of_weights = pairs.map(|(weight, g)| weight * (g - mean)).collect();
        let of_features = weights.iter().zip(features).map(|(weight, of)| {
            let values = gradient.iter().map(|g| weight * g).collect();
            TensorBuf::from_vec::<f32>(values, &of.shape)
        });
        Ok((vec![of_weights], of_features.collect::<Result<_, _>>()?))
    }
}
