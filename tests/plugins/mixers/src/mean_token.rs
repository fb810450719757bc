//! A whole mixer: one visual token, the sum of a projection of each encoder's mean feature.

use merv_plugin_api::{
    Mixer, MixerInfo, MixerRequest, MixerWeights, PluginError, TensorBuf, TensorView, VisualTokens,
};

pub struct MeanToken {
    info: MixerInfo,
    /// For each encoder `[llm_width, width]`.
    projections: Vec<Vec<f32>>,
    llm_width: usize,
}

fn name(encoder: usize) -> String {
    format!("projectors.{encoder}.weight")
}

pub fn describe(request: &MixerRequest) -> MixerInfo {
    let inputs = request.inputs.iter().enumerate();
    inputs.fold(MixerInfo::new(1), |info, (index, input)| {
        info.parameter(
            &name(index),
            &[request.llm_width as usize, input.width as usize],
        )
    })
}

pub fn load(request: &MixerRequest, weights: &MixerWeights<'_>) -> Result<MeanToken, PluginError> {
    let info = describe(request);
    let projections = info.parameters.iter().map(|parameter| {
        let stored = weights.get(&parameter.name)?;
        // New values are the same for all elements: the seed divided by 1000.
        let new = || vec![weights.seed() as f32 / 1000.0; parameter.elements()];
        Ok(stored.map_or_else(new, <[f32]>::to_vec))
    });
    Ok(MeanToken {
        projections: projections.collect::<Result<_, PluginError>>()?,
        llm_width: request.llm_width as usize,
        info,
    })
}

impl Mixer for MeanToken {
    fn info(&self) -> MixerInfo {
        self.info.clone()
    }

    fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens, PluginError> {
        let batch = features.first().map_or(0, |view| view.shape()[0]);
        let mut visual = vec![0.0f32; batch * self.llm_width];
        for (view, projection) in features.iter().zip(&self.projections) {
            let [_, tokens, width] = view.dims::<3>()?;
            let clips = view.f32s()?.chunks_exact(tokens * width);
            for (clip, out) in clips.zip(visual.chunks_exact_mut(self.llm_width)) {
                for (row, sum) in projection.chunks_exact(width).zip(out) {
                    let dots = clip.chunks_exact(width).map(|token| dot(row, token));
                    *sum += dots.sum::<f32>() / tokens as f32;
                }
            }
        }
        let tokens = TensorBuf::from_vec(visual, &[batch, 1, self.llm_width])?;
        Ok(VisualTokens::new(tokens))
    }
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
