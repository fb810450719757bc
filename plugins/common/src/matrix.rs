//! A weight matrix that is read from its mapped file.

use crate::kernels::elements::Elements;
use half::{bf16, f16};
use merv_checkpoint::{StoredDtype, StoredTensor};
use merv_plugin_api::TensorElement;
use std::{ops::Range, sync::Arc};

/// A tensor that a model has taken from its files, or some of its rows.
#[derive(Clone)]
pub(crate) struct Taken {
    tensor: StoredTensor,
    /// An aligned copy of the elements, if they are not aligned in the file.
    aligned: Option<Arc<Aligned>>,
    /// The elements of the rows.
    elements: Range<usize>,
}

impl Taken {
    /// Takes all of `tensor`, whose dtype must be one of [`Elements`].
    pub(crate) fn new(tensor: &StoredTensor) -> Self {
        let bytes = tensor.bytes();
        let aligned = match tensor.dtype {
            StoredDtype::F16 => unaligned(bytes, f16::from_le_bytes).map(Aligned::F16),
            StoredDtype::BF16 => unaligned(bytes, bf16::from_le_bytes).map(Aligned::BF16),
            StoredDtype::Quantized(_) => None,
            _ => unaligned(bytes, f32::from_le_bytes).map(Aligned::F32),
        };
        Self {
            tensor: tensor.clone(),
            aligned: aligned.map(Arc::new),
            elements: 0..tensor.elements(),
        }
    }

    pub(crate) fn elements(&self) -> Elements<'_> {
        let all = match (self.aligned.as_deref(), self.tensor.dtype) {
            (Some(Aligned::F32(data)), _) => Elements::F32(data),
            (Some(Aligned::F16(data)), _) => Elements::F16(data),
            (Some(Aligned::BF16(data)), _) => Elements::BF16(data),
            (None, StoredDtype::F16) => Elements::F16(cast(self.tensor.bytes())),
            (None, StoredDtype::BF16) => Elements::BF16(cast(self.tensor.bytes())),
            (None, StoredDtype::Quantized(kind)) => Elements::Quantized(kind, self.tensor.bytes()),
            // `Scope::take` returns no other dtype.
            (None, _) => Elements::F32(cast(self.tensor.bytes())),
        };
        all.slice(self.elements.clone())
    }
}

enum Aligned {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// A weight matrix `[rows, columns]` that stays in the mapped file.
#[derive(Clone)]
pub struct Matrix {
    /// `None` if `load` has recorded a problem with the tensor. Such a matrix is never returned by `load`.
    pub(crate) taken: Option<Taken>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Matrix {
    /// Returns the number of rows: the outputs of a linear layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of columns: the inputs of a linear layer.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns the rows of `range` as a matrix, which stays mapped.
    #[must_use]
    pub fn narrow(&self, range: Range<usize>) -> Self {
        let taken = self.taken.as_ref().map(|taken| {
            let start = taken.elements.start + range.start * self.columns;
            Taken {
                elements: start..start + range.len() * self.columns,
                ..taken.clone()
            }
        });
        Self {
            taken,
            rows: range.len(),
            columns: self.columns,
        }
    }

    /// Returns the elements, row by row.
    pub fn elements(&self) -> Elements<'_> {
        self.taken
            .as_ref()
            .map_or(Elements::F32(&[]), Taken::elements)
    }

    /// Returns the tensor in the file. The matrix can be some of its rows.
    pub fn stored(&self) -> Option<&StoredTensor> {
        self.taken.as_ref().map(|taken| &taken.tensor)
    }
}

/// Reinterprets the bytes of a tensor as its elements.
fn cast<T: TensorElement>(bytes: &[u8]) -> &[T] {
    // SAFETY: every bit pattern is a valid `TensorElement`. `Taken::new` copies misaligned elements, so
    // the prefix and suffix are empty.
    let (prefix, elements, suffix) = unsafe { bytes.align_to::<T>() };
    debug_assert!(prefix.is_empty() && suffix.is_empty());
    elements
}

/// Returns a copy of the elements if they are not aligned. Older writers pad neither safetensors headers nor
/// the entries of PyTorch's zip files.
fn unaligned<T, const N: usize>(bytes: &[u8], element: fn([u8; N]) -> T) -> Option<Vec<T>> {
    if bytes.as_ptr().cast::<T>().is_aligned() {
        return None;
    }
    let (elements, _) = bytes.as_chunks::<N>();
    Some(elements.iter().map(|&bytes| element(bytes)).collect())
}

/// Returns whether [`Elements`] has the dtype of these elements.
pub(crate) fn computable(tensor: &StoredTensor) -> bool {
    matches!(
        tensor.dtype,
        StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16 | StoredDtype::Quantized(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_elements_are_copied() {
        let mut bytes = [0u8; 64];
        let start = bytes.as_ptr().align_offset(4);
        for (index, value) in [1.5f32, -2.0, 3.25].iter().enumerate() {
            bytes[start + 1 + index * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        let misaligned = &bytes[start + 1..start + 13];
        assert_eq!(
            unaligned(misaligned, f32::from_le_bytes),
            Some(vec![1.5, -2.0, 3.25])
        );
        assert_eq!(
            unaligned(&bytes[start..start + 12], f32::from_le_bytes),
            None
        );
    }
}
