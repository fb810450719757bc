//! A mixer of this plugin: a computation, and the parameters that it learns.

use merv_plugin_api::{
    AdamWStep, Mixer, MixerInfo, MixerWeights, ParameterInfo, ParameterRange, PluginError, Ranges,
    ReadyGradients, StatePart, TakeTensor, TensorBuf, TensorView, TensorViewMut, Trainable,
    TrainableMixer, TrainingOptions, VisitTensor, VisualTokens,
};
use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The features of one encoder, copied from the host: `[batch, tokens, width]`.
pub struct Features {
    pub values: Vec<f32>,
    pub shape: Vec<usize>,
}

/// The gradients of the parameters, and of the features of each encoder.
pub type Gradients = (Vec<Vec<f32>>, Vec<TensorBuf>);

/// What a mixer computes with its parameters, in the order of [`MixerInfo::parameters`].
pub trait Computation: Send + Sync + 'static {
    fn forward(
        &self,
        parameters: &[&[f32]],
        features: &[TensorView<'_>],
    ) -> Result<VisualTokens, PluginError>;

    fn backward(
        &self,
        parameters: &[&[f32]],
        features: &[Features],
        gradient: &[f32],
    ) -> Result<Gradients, PluginError>;
}

/// A parameter, its gradient and AdamW's moments.
type State = [Vec<f32>; 4];

pub struct Model<C> {
    info: MixerInfo,
    computation: C,
    states: Mutex<Vec<State>>,
    options: Mutex<Option<TrainingOptions>>,
}

impl<C: Computation> Model<C> {
    /// Takes the stored parameters from `weights`. `new` gives the values of the others.
    pub fn load(
        info: MixerInfo,
        computation: C,
        weights: &MixerWeights<'_>,
        new: impl Fn(&ParameterInfo) -> Vec<f32>,
    ) -> Result<Self, PluginError> {
        let states = info.parameters.iter().map(|parameter| {
            let stored = weights.get(&parameter.name)?;
            let values = stored.map_or_else(|| new(parameter), <[f32]>::to_vec);
            let zeros = || vec![0.0; values.len()];
            Ok([values.clone(), zeros(), zeros(), zeros()])
        });
        Ok(Self {
            states: Mutex::new(states.collect::<Result<_, PluginError>>()?),
            info,
            computation,
            options: Mutex::default(),
        })
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self) -> Result<TrainingOptions, PluginError> {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        let options = options.clone();
        options.ok_or_else(|| PluginError::invalid("training has not begun"))
    }

    /// Returns the places of parameters and their elements in `ranges`.
    fn parts(&self, ranges: Ranges<'_>) -> Result<Vec<(usize, Range<usize>)>, PluginError> {
        let parameters = &self.info.parameters;
        let whole = |(place, info): (usize, &ParameterInfo)| (place, 0..info.elements());
        match ranges {
            Ranges::All => Ok(parameters.iter().enumerate().map(whole).collect()),
            Ranges::Only(list) => {
                let found = list.iter().map(|range| {
                    let found = range.find(parameters, |info| (&info.name, info.elements()))?;
                    Ok((range.parameter as usize, found.1))
                });
                found.collect()
            }
        }
    }

    /// Returns the shape in which some elements of a parameter cross.
    fn shape(&self, ranges: Ranges<'_>, place: usize, elements: &Range<usize>) -> Vec<usize> {
        match ranges {
            Ranges::All => self.info.parameters[place].shape.clone(),
            Ranges::Only(_) => vec![elements.len()],
        }
    }
}

fn weights(states: &[State]) -> Vec<&[f32]> {
    states.iter().map(|[values, ..]| &values[..]).collect()
}

fn index(part: StatePart) -> Result<usize, PluginError> {
    match part {
        StatePart::WEIGHTS => Ok(0),
        StatePart::GRADIENT => Ok(1),
        StatePart::FIRST_MOMENT => Ok(2),
        StatePart::SECOND_MOMENT => Ok(3),
        other => Err(PluginError::unsupported(other)),
    }
}

impl<C: Computation> Mixer for Model<C> {
    fn info(&self) -> MixerInfo {
        self.info.clone()
    }

    fn forward(&self, features: &[TensorView<'_>]) -> Result<VisualTokens, PluginError> {
        self.computation.forward(&weights(&self.states()), features)
    }
}

impl<C: Computation> TrainableMixer for Model<C> {
    type Tape = Vec<Features>;

    fn forward_train(
        &self,
        features: &[TensorView<'_>],
    ) -> Result<(VisualTokens, Self::Tape), PluginError> {
        self.options()?;
        let kept = features.iter().map(|view| {
            Ok(Features {
                values: view.f32s()?.to_vec(),
                shape: view.shape().to_vec(),
            })
        });
        let tape = kept.collect::<Result<_, PluginError>>()?;
        Ok((self.forward(features)?, tape))
    }

    fn backward(
        &self,
        tape: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<Vec<TensorBuf>, PluginError> {
        let options = self.options()?;
        let mut states = self.states();
        let from = gradient.f32s()?;
        let (of_parameters, of_features) =
            self.computation.backward(&weights(&states), &tape, from)?;
        if options.trainable {
            for ([_, sum, ..], gradient) in states.iter_mut().zip(of_parameters) {
                let pairs = sum.iter_mut().zip(gradient);
                pairs.for_each(|(sum, g)| *sum += g);
            }
            let places: Vec<u32> = (0..).zip(states.iter()).map(|(place, _)| place).collect();
            drop(states);
            ready(&places)?;
        }
        if options.input_gradients {
            return Ok(of_features);
        }
        let none = of_features.iter();
        none.map(|_| TensorBuf::from_vec(Vec::<f32>::new(), &[0]))
            .collect()
    }
}

impl<C: Computation> Trainable for Model<C> {
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        let mut begun = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        *begun = Some(options.clone());
        Ok(())
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        Ok(match self.options()?.trainable {
            true => self.info.parameters.clone(),
            false => Vec::new(),
        })
    }

    fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        let (index, mut states) = (index(part)?, self.states());
        for (place, elements) in self.parts(ranges)? {
            let shape = self.shape(ranges, place, &elements);
            let values = &mut states[place][index][elements];
            visit(place as u32, TensorViewMut::new(values, &shape)?)?;
        }
        Ok(())
    }

    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        let (parts, states) = (self.parts(ranges)?, self.states());
        let gradients = parts
            .into_iter()
            .flat_map(|(place, elements)| &states[place][1][elements]);
        Ok(gradients.map(|&g| f64::from(g) * f64::from(g)).sum())
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        let mut states = self.states();
        states
            .iter_mut()
            .for_each(|[_, gradient, ..]| gradient.fill(0.0));
        Ok(())
    }

    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        let (parts, mut states) = (self.parts(ranges)?, self.states());
        let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
        let (rate, t) = (step.learning_rate as f32, step.step as i32);
        for (place, elements) in parts {
            let info = &self.info.parameters[place];
            let decays = info.shape.len() > 1 && !info.name.ends_with("bias");
            let decay = if decays {
                rate * step.weight_decay as f32
            } else {
                0.0
            };
            let [weights, gradient, first, second] = &mut states[place];
            for index in elements {
                let g = gradient[index] * step.gradient_scale as f32;
                first[index] = b1 * first[index] + (1.0 - b1) * g;
                second[index] = b2 * second[index] + (1.0 - b2) * g * g;
                let mean = first[index] / (1.0 - b1.powi(t));
                let square = second[index] / (1.0 - b2.powi(t));
                weights[index] -= decay * weights[index];
                weights[index] -= rate * mean / (square.sqrt() + step.epsilon as f32);
            }
        }
        Ok(())
    }

    fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        let (index, states) = (index(part)?, self.states());
        for (place, elements) in self.parts(ranges)? {
            let shape = self.shape(ranges, place, &elements);
            let values = &states[place][index][elements];
            take(place as u32, TensorView::new(values, &shape)?)?;
        }
        Ok(())
    }

    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        for (place, elements) in self.parts(Ranges::Only(&[range]))? {
            self.states()[place][index(part)?][elements].copy_from_slice(values.f32s()?);
        }
        Ok(())
    }
}
