//! Operations on the rows of a product before they are stored.

use super::elementwise;
use crate::activation::Activation;

/// The operations on each output row `y` of a product: `residual + scale · activation(y + bias)`.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added to each row: `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// Multiplied element by element (LayerScale): `[outputs]`.
    pub scale: Option<&'a [f32]>,
    /// Added last: `[rows, outputs]`.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Applies it to the part of a row that begins at `output`, which is element `start` of the whole output.
    #[inline(always)]
    pub(super) fn apply(&self, y: &mut [f32], output: usize, start: usize) {
        if let Some(bias) = self.bias {
            for (y, b) in y.iter_mut().zip(&bias[output..]) {
                *y += b;
            }
        }
        // One loop for each activation: a function that is passed as an argument would not be inlined.
        match self.activation {
            None => {}
            Some(Activation::Gelu) => {
                for y in y.iter_mut() {
                    *y = elementwise::gelu(*y);
                }
            }
            Some(Activation::GeluTanh) => {
                for y in y.iter_mut() {
                    *y = elementwise::gelu_tanh(*y);
                }
            }
            Some(Activation::QuickGelu) => {
                for y in y.iter_mut() {
                    *y = elementwise::quick_gelu(*y);
                }
            }
            Some(Activation::Silu) => {
                for y in y.iter_mut() {
                    *y = elementwise::silu(*y);
                }
            }
        }
        if let Some(scale) = self.scale {
            for (y, s) in y.iter_mut().zip(&scale[output..]) {
                *y *= s;
            }
        }
        if let Some(residual) = self.residual {
            for (y, r) in y.iter_mut().zip(&residual[start..]) {
                *y += r;
            }
        }
    }
}

multiversion! {
    /// Applies `epilogue` to the part of a row that begins at `output`, which is element `start` of the whole
    /// output.
    pub(super) fn apply(y: &mut [f32], output: usize, start: usize, epilogue: Epilogue<'_>) {
        epilogue.apply(y, output, start);
    }
}
