//! Converts floating-point numbers to another type.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use merv_plugin_sdk::checkpoint::StoredDtype;
use safetensors::Dtype;

/// Returns the safetensors type for numbers of type `stored`, with floating-point numbers converted to `wanted`.
/// Returns `None` for quantised numbers, which safetensors does not support.
pub(super) fn stored_as(stored: StoredDtype, wanted: Option<Dtype>) -> Option<Dtype> {
    let same = match stored {
        StoredDtype::F64 => Dtype::F64,
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::F16 => Dtype::F16,
        StoredDtype::BF16 => Dtype::BF16,
        StoredDtype::I64 => Dtype::I64,
        StoredDtype::I32 => Dtype::I32,
        StoredDtype::I16 => Dtype::I16,
        StoredDtype::I8 => Dtype::I8,
        StoredDtype::U8 => Dtype::U8,
        StoredDtype::Bool => Dtype::BOOL,
        StoredDtype::Quantized(_) => return None,
    };
    Some(if stored.is_float() {
        wanted.unwrap_or(same)
    } else {
        same
    })
}

/// Converts the numbers in `bytes` from type `from` to type `to`, rounded to the nearest.
///
/// # Errors
///
/// When numbers are too large for `to`. The error is their count.
pub(super) fn converted(bytes: &[u8], from: StoredDtype, to: Dtype) -> Result<Vec<u8>, usize> {
    match from {
        StoredDtype::F64 => encode(&numbers(bytes, f64::from_le_bytes), to, |x| match to {
            Dtype::F16 | Dtype::BF16 => odd(x),
            _ => x as f32,
        }),
        StoredDtype::F16 => {
            let halves = numbers(bytes, f16::from_le_bytes);
            let mut floats = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut floats);
            encode(&floats, to, |x| x)
        }
        StoredDtype::BF16 => {
            let halves = numbers(bytes, bf16::from_le_bytes);
            let mut floats = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut floats);
            encode(&floats, to, |x| x)
        }
        _ => encode(&numbers(bytes, f32::from_le_bytes), to, |x| x),
    }
}

/// Converts `x` to `f32` and rounds inexact values to odd, so that a second rounding is correct. The conversions in
/// `half` ignore the last bits of an `f64`.
fn odd(x: f64) -> f32 {
    let near = x as f32;
    let wide = f64::from(near);
    if x.is_nan() || wide == x || near.to_bits() & 1 == 1 {
        return near;
    }
    // One step towards zero if rounding went away from zero, else one step away: both neighbours are odd.
    let away = wide.abs() > x.abs();
    f32::from_bits(if away {
        near.to_bits() - 1
    } else {
        near.to_bits() + 1
    })
}

fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|&bytes| number(bytes)).collect()
}

/// Encodes numbers as `to`. `single` converts a number to `f32` and must keep values that are exact in `to`.
fn encode<T: Copy + Into<f64>>(
    numbers: &[T],
    to: Dtype,
    single: impl Fn(T) -> f32,
) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::with_capacity(numbers.len() * to.bitsize() / 8);
    let mut lost = 0;
    for &number in numbers {
        let float = single(number);
        let finite = match to {
            Dtype::F16 => {
                let half = f16::from_f32(float);
                bytes.extend_from_slice(&half.to_le_bytes());
                half.is_finite()
            }
            Dtype::BF16 => {
                let half = bf16::from_f32(float);
                bytes.extend_from_slice(&half.to_le_bytes());
                half.is_finite()
            }
            _ => {
                bytes.extend_from_slice(&float.to_le_bytes());
                float.is_finite()
            }
        };
        lost += usize::from(!finite && number.into().is_finite());
    }
    if lost > 0 { Err(lost) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        let third = 1.0f32 / 3.0;
        let half = converted(&bytes(&[third, -2.0]), StoredDtype::F32, Dtype::F16).unwrap();
        let expected = [f16::from_f32(third), f16::from_f32(-2.0)].map(f16::to_le_bytes);
        assert_eq!(half, expected.concat());
        let brain = converted(&bytes(&[third]), StoredDtype::F32, Dtype::BF16).unwrap();
        assert_eq!(brain, bf16::from_f32(third).to_le_bytes());
        let back = converted(&half, StoredDtype::F16, Dtype::F32).unwrap();
        assert_eq!(back, bytes(&[f16::from_f32(third).to_f32(), -2.0]));
        // Slightly more than halfway between two bf16 numbers: rounding twice would lose the difference.
        let double = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        let brain = converted(&double.to_le_bytes(), StoredDtype::F64, Dtype::BF16).unwrap();
        assert_eq!(brain, bf16::from_f32(1.0 + 2f32.powi(-7)).to_le_bytes());
    }

    #[test]
    fn numbers_that_are_too_large_are_counted() {
        let numbers = bytes(&[1e5, 1.0, -1e30, f32::INFINITY, f32::NAN]);
        assert_eq!(converted(&numbers, StoredDtype::F32, Dtype::F16), Err(2));
        assert!(converted(&numbers, StoredDtype::F32, Dtype::BF16).is_ok());
    }
}
