//! A fusion: the sum of all encoders' features, weighted with the softmax of one learned number per encoder.

use crate::mean_token::dot;
use merv_plugin_api::{
    AdamWStep, Mixer, MixerInfo, MixerRequest, MixerWeights, ParameterInfo, ParameterRange,
    PluginError, Ranges, ReadyGradients, StatePart, TakeTensor, TensorBuf, TensorView,
    TensorViewMut, Trainable, TrainableMixer, TrainingOptions, VisitTensor, VisualTokens,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

const NAME: &str = "feature_fusion.scalar";

pub struct Scalar {
    info: MixerInfo,
    /// The learned numbers, their gradient and AdamW's moments.
    state: Mutex<[Vec<f32>; 4]>,
    trained: Mutex<Option<bool>>,
}

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

pub fn load(request: &MixerRequest, weights: &MixerWeights<'_>) -> Result<Scalar, PluginError> {
    let encoders = request.inputs.len();
    let learned = weights.get(NAME)?;
    let learned = learned.map_or_else(|| vec![0.0; encoders], <[f32]>::to_vec);
    let zeros = || vec![0.0; encoders];
    Ok(Scalar {
        info: describe(request)?,
        state: Mutex::new([learned, zeros(), zeros(), zeros()]),
        trained: Mutex::default(),
    })
}

impl Scalar {
    fn state(&self) -> MutexGuard<'_, [Vec<f32>; 4]> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_trained(&self) -> Result<bool, PluginError> {
        let trained = *self.trained.lock().unwrap_or_else(PoisonError::into_inner);
        trained.ok_or_else(|| PluginError::invalid("training has not begun"))
    }

    fn softmax(&self) -> Vec<f32> {
        let learned = self.state()[0].clone();
        let largest = learned.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = learned.iter().map(|x| (x - largest).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    }

    /// Checks that a list of ranges is the whole of the only parameter.
    fn whole(&self, ranges: Ranges<'_>) -> Result<(), PluginError> {
        let end = self.state()[0].len() as u64;
        let all = ParameterRange {
            parameter: 0,
            start: 0,
            end,
        };
        match ranges {
            Ranges::All => Ok(()),
            Ranges::Only([range]) if *range == all => Ok(()),
            Ranges::Only(_) => Err(PluginError::unsupported("only whole parameters")),
        }
    }
}

fn place(part: StatePart) -> Result<usize, PluginError> {
    match part {
        StatePart::WEIGHTS => Ok(0),
        StatePart::GRADIENT => Ok(1),
        StatePart::FIRST_MOMENT => Ok(2),
        StatePart::SECOND_MOMENT => Ok(3),
        other => Err(PluginError::unsupported(other)),
    }
}

impl Mixer for Scalar {
    fn info(&self) -> MixerInfo {
        self.info.clone()
    }

    fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens, PluginError> {
        let weights = self.softmax();
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
}

impl TrainableMixer for Scalar {
    /// The features of each encoder.
    type Tape = Vec<Vec<f32>>;

    fn forward_train(
        &self,
        features: &[TensorView<'_>],
    ) -> Result<(VisualTokens, Self::Tape), PluginError> {
        self.is_trained()?;
        let kept = features.iter().map(|view| Ok(view.f32s()?.to_vec()));
        Ok((
            self.forward(features)?,
            kept.collect::<Result<_, PluginError>>()?,
        ))
    }

    fn backward(
        &self,
        tape: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError> {
        let (weights, from) = (self.softmax(), gradient.f32s()?);
        let of_weights: Vec<f32> = tape.iter().map(|features| dot(features, from)).collect();
        let mean = dot(&weights, &of_weights);
        if self.is_trained()? {
            let mut state = self.state();
            let all = state[1].iter_mut().zip(weights.iter().zip(&of_weights));
            all.for_each(|(sum, (weight, g))| *sum += weight * (g - mean));
            drop(state);
            ready(&[0])?;
        }
        let all = weights.iter().map(|weight| {
            let values = from.iter().map(|g| weight * g).collect();
            TensorBuf::from_vec::<f32>(values, gradient.shape())
        });
        all.collect()
    }
}

impl Trainable for Scalar {
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        let mut trained = self.trained.lock().unwrap_or_else(PoisonError::into_inner);
        *trained = Some(options.trainable);
        Ok(())
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        Ok(match self.is_trained()? {
            true => self.info.parameters.clone(),
            false => Vec::new(),
        })
    }

    fn visit(&self, part: StatePart, visit: &mut VisitTensor<'_>) -> Result<(), PluginError> {
        let mut state = self.state();
        let values = &mut state[place(part)?];
        let shape = [values.len()];
        visit(0, TensorViewMut::new(values, &shape)?)
    }

    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        self.whole(ranges)?;
        let state = self.state();
        Ok(state[1].iter().map(|&g| f64::from(g) * f64::from(g)).sum())
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        self.state()[1].fill(0.0);
        Ok(())
    }

    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        self.whole(ranges)?;
        let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
        let t = step.step as i32;
        let mut state = self.state();
        let [weights, gradient, first, second] = &mut *state;
        for index in 0..weights.len() {
            let g = gradient[index] * step.gradient_scale as f32;
            first[index] = b1 * first[index] + (1.0 - b1) * g;
            second[index] = b2 * second[index] + (1.0 - b2) * g * g;
            let mean = first[index] / (1.0 - b1.powi(t));
            let square = second[index] / (1.0 - b2.powi(t));
            weights[index] -=
                step.learning_rate as f32 * mean / (square.sqrt() + step.epsilon as f32);
        }
        Ok(())
    }

    fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        self.whole(ranges)?;
        let state = self.state();
        let values = &state[place(part)?];
        take(0, TensorView::new(values, &[values.len()])?)
    }

    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        self.whole(Ranges::Only(&[range]))?;
        self.state()[place(part)?].copy_from_slice(values.f32s()?);
        Ok(())
    }
}
