//! The mixer during training: its gradients and the optimizer's moments.

use super::part::{PluginPart, TrainedPart};
use crate::{Error, mixer::Mixer, plugin::CallError};
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use merv_plugin_api::{AdamWStep, ParameterInfo, PluginError, StatePart, TakeTensor, TensorView};
use merv_plugin_sdk::kernels::{adamw::AdamWParameter, squares::squares};

/// The mixer's parameters, with the training state of each.
pub struct MixerPart {
    slots: Vec<ParameterState>,
    /// The fusion, if a plugin brings it. Its parameters come last.
    fusion: Option<PluginPart>,
}

struct ParameterState {
    name: String,
    shape: Vec<usize>,
    var: Var,
    /// The sum of the gradients since they were cleared, if there were any. Parameters without a gradient are not
    /// updated, as in PyTorch.
    gradient: Option<Vec<f32>>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl MixerPart {
    /// Shares the parameters of `mixer`, so updates change the mixer.
    ///
    /// # Errors
    ///
    /// When the fusion is of a plugin and cannot be trained.
    pub fn new(mixer: &Mixer) -> Result<Self, CallError> {
        let slots = mixer.parameters().iter().map(|parameter| {
            let count = parameter.var.elem_count();
            ParameterState {
                name: parameter.name.clone(),
                shape: parameter.var.dims().to_vec(),
                var: parameter.var.clone(),
                gradient: None,
                first: vec![0.0; count],
                second: vec![0.0; count],
            }
        });
        let fusion = mixer.begin_training()?;
        Ok(Self {
            slots: slots.collect(),
            fusion: fusion.map(|training| PluginPart::new("mixer".to_owned(), training)),
        })
    }

    /// Returns the place of a parameter of the fusion in the fusion.
    fn in_fusion(&mut self, parameter: u32) -> Option<(&mut PluginPart, u32)> {
        let place = parameter.checked_sub(self.slots.len() as u32)?;
        Some((self.fusion.as_mut()?, place))
    }

    /// Adds the gradients of one backward pass.
    ///
    /// # Errors
    ///
    /// When a gradient does not have its parameter's shape, which candle does not allow.
    pub fn add(&mut self, gradients: &GradStore) -> Result<(), Error> {
        for slot in &mut self.slots {
            let Some(new) = gradients.get(slot.var.as_tensor()) else {
                continue;
            };
            let new = new.flatten_all()?.to_vec1::<f32>()?;
            match &mut slot.gradient {
                Some(sum) => sum.iter_mut().zip(&new).for_each(|(sum, new)| *sum += new),
                None => slot.gradient = Some(new),
            }
        }
        // The plugin added its gradients during the backward pass.
        self.fusion.iter_mut().for_each(PluginPart::touch);
        Ok(())
    }
}

impl ParameterState {
    fn values(&self) -> Result<Vec<f32>, Error> {
        Ok(self.var.flatten_all()?.to_vec1()?)
    }

    fn set(&self, values: Vec<f32>) -> Result<(), Error> {
        let values = Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?;
        Ok(self.var.set(&values)?)
    }

    fn apply(&mut self, step: &AdamWStep) -> Result<(), Error> {
        let Some(gradient) = &self.gradient else {
            return Ok(());
        };
        let mut values = self.values()?;
        let parameter = AdamWParameter {
            name: &self.name,
            shape: &self.shape,
            values: &mut values,
            gradient,
            moments: [&mut self.first, &mut self.second],
        };
        parameter.apply(step);
        self.set(values)
    }
}

impl TrainedPart for MixerPart {
    fn name(&self) -> &str {
        "mixer"
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error> {
        let infos = self.slots.iter();
        let infos = infos.map(|slot| ParameterInfo::new(&slot.name, slot.shape.as_slice()));
        let mut infos: Vec<ParameterInfo> = infos.collect();
        if let Some(fusion) = &self.fusion {
            infos.extend(fusion.parameters()?);
        }
        Ok(infos)
    }

    fn gradient_squares(&self) -> Result<Option<f64>, Error> {
        let gradients = self
            .slots
            .iter()
            .filter_map(|slot| slot.gradient.as_deref());
        let own = gradients.map(squares).reduce(|sum, more| sum + more);
        let fusion = self.fusion.as_ref().map(PluginPart::gradient_squares);
        Ok(match (own, fusion.transpose()?.flatten()) {
            (Some(own), Some(fusion)) => Some(own + fusion),
            (own, fusion) => own.or(fusion),
        })
    }

    fn clear_gradients(&mut self) -> Result<(), Error> {
        self.slots.iter_mut().for_each(|slot| slot.gradient = None);
        match &mut self.fusion {
            Some(fusion) => fusion.clear_gradients(),
            None => Ok(()),
        }
    }

    fn apply_adamw(&mut self, step: &AdamWStep) -> Result<(), Error> {
        self.slots
            .iter_mut()
            .try_for_each(|slot| slot.apply(step))?;
        match &mut self.fusion {
            Some(fusion) => fusion.apply_adamw(step),
            None => Ok(()),
        }
    }

    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error> {
        for (index, slot) in (0..).zip(&self.slots) {
            let values;
            let part = match state {
                StatePart::WEIGHTS => {
                    values = slot.values()?;
                    &values
                }
                StatePart::FIRST_MOMENT => &slot.first,
                StatePart::SECOND_MOMENT => &slot.second,
                other => return Err(unknown(other)),
            };
            take(index, TensorView::new(part, &slot.shape)?)?;
        }
        let first = self.slots.len() as u32;
        match &self.fusion {
            Some(fusion) => fusion.export(state, &mut |index, values| take(first + index, values)),
            None => Ok(()),
        }
    }

    fn import(
        &mut self,
        state: StatePart,
        parameter: u32,
        values: TensorView<'_>,
    ) -> Result<(), Error> {
        if let Some((fusion, place)) = self.in_fusion(parameter) {
            return fusion.import(state, place, values);
        }
        let slot = self.slots.get_mut(parameter as usize);
        let slot = slot
            .filter(|slot| slot.shape == values.shape())
            .ok_or_else(|| {
                PluginError::invalid(format!(
                    "the mixer has no parameter {parameter} of shape {:?}",
                    values.shape()
                ))
            })?;
        let values = values.f32s()?.to_vec();
        match state {
            StatePart::WEIGHTS => slot.set(values)?,
            StatePart::FIRST_MOMENT => slot.first = values,
            StatePart::SECOND_MOMENT => slot.second = values,
            other => return Err(unknown(other)),
        }
        Ok(())
    }
}

fn unknown(part: StatePart) -> Error {
    let message = format!("the mixer's state cannot be saved by {part}");
    PluginError::unsupported(message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, shape: &[usize], values: &[f32]) -> ParameterState {
        ParameterState {
            name: name.to_owned(),
            shape: shape.to_vec(),
            var: Var::from_slice(values, shape, &Device::Cpu).unwrap(),
            gradient: None,
            first: vec![0.0; values.len()],
            second: vec![0.0; values.len()],
        }
    }

    fn step(number: u64) -> AdamWStep {
        AdamWStep::new(number, 0.1)
            .weight_decay(0.5)
            .gradient_scale(0.25)
    }

    /// Two steps of `torch.optim.AdamW(lr=0.1, weight_decay=0.5)` on gradients [1, -0.5], then [0.25, 2].
    #[test]
    fn two_steps_agree_with_pytorch() {
        let mut part = MixerPart {
            slots: vec![slot("a.weight", &[1, 2], &[1.0, -2.0])],
            fusion: None,
        };
        for (number, gradient) in [(1, [4.0, -2.0]), (2, [1.0, 8.0])] {
            part.slots[0].gradient = Some(gradient.to_vec());
            part.apply_adamw(&step(number)).unwrap();
        }
        let found = part.slots[0].values().unwrap();
        for (found, expected) in found.iter().zip(TORCH) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    const TORCH: [f32; 2] = [0.724_440_3, -1.765_950_3];

    #[test]
    fn nothing_changes_without_a_gradient() {
        let mut slot = slot("a.weight", &[1, 2], &[1.0, 1.0]);
        slot.apply(&step(1)).unwrap();
        assert_eq!(slot.values().unwrap(), [1.0, 1.0]);
        slot.gradient = Some(vec![0.0; 2]);
        slot.apply(&step(1)).unwrap();
        assert_eq!(slot.values().unwrap(), [0.95; 2], "weight decay alone");
    }
}
