//! A whole mixer: one visual token, the sum of a linear layer of each encoder's mean feature.

use crate::model::{Computation, Features, Gradients, Model};
use merv_plugin_api::{
    MixerInfo, MixerRequest, MixerWeights, ParameterInfo, PluginError, TensorBuf, TensorView,
    VisualTokens,
};

pub struct MeanToken {
    llm_width: usize,
}

/// All weights `[llm_width, width]`, then all biases `[llm_width]`.
pub fn describe(request: &MixerRequest) -> MixerInfo {
    let llm_width = request.llm_width as usize;
    let mut info = MixerInfo::new(1);
    for (index, input) in request.inputs.iter().enumerate() {
        let name = format!("projectors.{index}.weight");
        info = info.parameter(&name, &[llm_width, input.width as usize]);
    }
    (0..request.inputs.len()).fold(info, |info, index| {
        info.parameter(&format!("projectors.{index}.bias"), &[llm_width])
    })
}

pub fn load(
    request: &MixerRequest,
    weights: &MixerWeights<'_>,
) -> Result<Model<MeanToken>, PluginError> {
    let computation = MeanToken {
        llm_width: request.llm_width as usize,
    };
    // New weights are all the seed divided by 1000, and new biases zero.
    let new = |parameter: &ParameterInfo| {
        let is_bias = parameter.shape.len() == 1;
        let value = if is_bias {
            0.0
        } else {
            weights.seed() as f32 / 1000.0
        };
        vec![value; parameter.elements()]
    };
    Model::load(describe(request), computation, weights, new)
}

/// The mean of `[tokens, width]`.
fn mean(clip: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0.0; width];
    for token in clip.chunks_exact(width) {
        mean.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
    }
    let tokens = (clip.len() / width.max(1)) as f32;
    mean.iter_mut().for_each(|sum| *sum /= tokens);
    mean
}

impl Computation for MeanToken {
    fn forward(
        &self,
        parameters: &[&[f32]],
        features: &[TensorView<'_>],
    ) -> Result<VisualTokens, PluginError> {
        let batch = features.first().map_or(0, |view| view.shape()[0]);
        let (weights, biases) = parameters.split_at(parameters.len() / 2);
        let mut visual = vec![0.0f32; batch * self.llm_width];
        for ((view, weight), bias) in features.iter().zip(weights).zip(biases) {
            let [_, tokens, width] = view.dims::<3>()?;
            let clips = view.f32s()?.chunks_exact(tokens * width);
            for (clip, out) in clips.zip(visual.chunks_exact_mut(self.llm_width)) {
                let mean = mean(clip, width);
                let rows = weight.chunks_exact(width).zip(*bias);
                for ((row, bias), sum) in rows.zip(out) {
                    *sum += dot(row, &mean) + bias;
                }
            }
        }
        let tokens = TensorBuf::from_vec(visual, &[batch, 1, self.llm_width])?;
        Ok(VisualTokens::new(tokens))
    }

    fn backward(
        &self,
        parameters: &[&[f32]],
        features: &[Features],
        gradient: &[f32],
    ) -> Result<Gradients, PluginError> {
        let zeros = |of: &&[f32]| vec![0.0f32; of.len()];
        let mut of_parameters: Vec<Vec<f32>> = parameters.iter().map(zeros).collect();
        let (of_weights, of_biases) = of_parameters.split_at_mut(parameters.len() / 2);
        let mut of_features = Vec::new();
        for (index, of) in features.iter().enumerate() {
            let [batch, tokens, width] = [0, 1, 2].map(|axis| of.shape[axis]);
            let mut values = Vec::with_capacity(of.values.len());
            for clip in 0..batch {
                let size = tokens * width;
                let mean = mean(&of.values[clip * size..(clip + 1) * size], width);
                let gradient = &gradient[clip * self.llm_width..(clip + 1) * self.llm_width];
                let mut of_mean = vec![0.0f32; width];
                for (row, g) in gradient.iter().enumerate() {
                    of_biases[index][row] += g;
                    for column in 0..width {
                        let at = row * width + column;
                        of_weights[index][at] += g * mean[column];
                        of_mean[column] += g * parameters[index][at];
                    }
                }
                let of_token: Vec<f32> = of_mean.iter().map(|g| g / tokens as f32).collect();
                values.extend(of_token.repeat(tokens));
            }
            of_features.push(TensorBuf::from_vec(values, &of.shape)?);
        }
        Ok((of_parameters, of_features))
    }
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
