//! One step of AdamW (arXiv 1711.05101; `torch.optim.AdamW`).

use super::rows::ELEMENTS_PER_TASK;
use merv_plugin_api::AdamWStep;
use rayon::prelude::*;

/// A parameter that AdamW updates.
pub struct AdamWParameter<'a> {
    /// The name, which distinguishes biases from weights.
    pub name: &'a str,
    /// The shape, which distinguishes vectors from matrices.
    pub shape: &'a [usize],
    /// The elements.
    pub values: &'a mut [f32],
    /// The gradient of `values`.
    pub gradient: &'a [f32],
    /// The running means of the gradient and of its square. Zeros before the first step.
    pub moments: [&'a mut [f32]; 2],
}

impl AdamWParameter<'_> {
    /// Applies one step to the values and the moments.
    ///
    /// Weight decay applies to parameters of two or more dimensions that are not biases.
    pub fn apply(self, step: &AdamWStep) {
        let coefficients = Coefficients::new(step, self.decays());
        let [first, second] = self.moments;
        self.values
            .par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(self.gradient.par_chunks(ELEMENTS_PER_TASK))
            .zip(
                first
                    .par_chunks_mut(ELEMENTS_PER_TASK)
                    .zip(second.par_chunks_mut(ELEMENTS_PER_TASK)),
            )
            .for_each(|((values, gradient), (first, second))| {
                apply_part(values, gradient, first, second, coefficients);
            });
    }

    fn decays(&self) -> bool {
        self.shape.len() >= 2 && !self.name.ends_with("bias")
    }
}

/// The numbers of a step that are the same for all elements.
#[derive(Debug, Clone, Copy)]
struct Coefficients {
    gradient_scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    /// `1 - learning_rate · weight_decay`, or 1 without decay.
    decay: f32,
    /// `learning_rate / (1 - β₁ᵗ)`
    rate: f32,
    /// `1 / √(1 - β₂ᵗ)`
    correction: f32,
    /// `1 - β₁` and `1 - β₂`, subtracted in double precision.
    shares: [f32; 2],
}

impl Coefficients {
    fn new(step: &AdamWStep, decays: bool) -> Self {
        let t = step.step as f64;
        let decay = if decays {
            1.0 - step.learning_rate * step.weight_decay
        } else {
            1.0
        };
        Self {
            gradient_scale: step.gradient_scale as f32,
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            epsilon: step.epsilon as f32,
            decay: decay as f32,
            rate: (step.learning_rate / (1.0 - step.beta1.powf(t))) as f32,
            correction: (1.0 / (1.0 - step.beta2.powf(t)).sqrt()) as f32,
            shares: [(1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32],
        }
    }
}

multiversion! {
    fn apply_part(values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], by: Coefficients) {
        let state = first.iter_mut().zip(second);
        for ((w, g), (m, v)) in values.iter_mut().zip(gradient).zip(state) {
            let g = g * by.gradient_scale;
            *m = by.beta1.mul_add(*m, by.shares[0] * g);
            *v = by.beta2.mul_add(*v, by.shares[1] * g * g);
            *w = *w * by.decay - by.rate * *m / v.sqrt().mul_add(by.correction, by.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps of `torch.optim.AdamW(lr=0.1, weight_decay=0.5)` on gradients [1, -0.5], then [0.25, 2].
    #[test]
    fn two_steps_are_those_of_pytorch() {
        let mut values = [1.0, -2.0];
        let (mut first, mut second) = ([0.0; 2], [0.0; 2]);
        for (number, gradient) in [(1, [4.0, -2.0]), (2, [1.0, 8.0])] {
            let parameter = AdamWParameter {
                name: "a.weight",
                shape: &[1, 2],
                values: &mut values,
                gradient: &gradient,
                moments: [&mut first, &mut second],
            };
            parameter.apply(&step(number));
        }
        for (found, expected) in values.iter().zip([0.724_440_3, -1.765_950_3]) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn biases_and_vectors_do_not_decay() {
        for (name, shape, decays) in [
            ("Q", &[1, 2][..], true),
            ("norm.weight", &[2], false),
            ("x.bias", &[1, 2], false),
            ("x.in_proj_bias", &[2], false),
        ] {
            let mut values = [1.0; 2];
            let (mut first, mut second) = ([0.0; 2], [0.0; 2]);
            let parameter = AdamWParameter {
                name,
                shape,
                values: &mut values,
                gradient: &[0.0; 2],
                moments: [&mut first, &mut second],
            };
            parameter.apply(&step(1));
            assert_eq!(values, [if decays { 0.95 } else { 1.0 }; 2], "{name}");
        }
    }

    fn step(number: u64) -> AdamWStep {
        AdamWStep::new(number, 0.1)
            .weight_decay(0.5)
            .gradient_scale(0.25)
    }
}
