//! Tensors in safetensors files, read as `f32` or edited in their stored form.

use safetensors::{SafeTensors, serialize_to_file, tensor::TensorView};
use std::{collections::BTreeMap, fs, path::Path};

pub use safetensors::Dtype;

/// A tensor of `f32`. Integers below 2²⁴ are exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements in C order.
    pub values: Vec<f32>,
}

/// The tensors of a file, by name.
#[derive(Debug, Default)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    /// The tensor `name`.
    ///
    /// # Panics
    ///
    /// If there is no such tensor.
    #[track_caller]
    pub fn get(&self, name: &str) -> &Tensor {
        let known = || self.names().collect::<Vec<_>>().join(", ");
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no tensor `{name}` among {}", known()))
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Tensor {
    /// The elements as token ids or frame numbers.
    pub fn ids(&self) -> Vec<u32> {
        self.values.iter().map(|&x| x as u32).collect()
    }

    /// The elements at the index `row` of the first dimension.
    pub fn row(&self, row: usize) -> &[f32] {
        let length = self.shape[1..].iter().product::<usize>();
        &self.values[row * length..][..length]
    }
}

/// Reads a safetensors file of `f32` and `i64` tensors.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = file.iter().map(|(name, view)| {
        let values = match view.dtype() {
            Dtype::F32 => numbers(view.data(), f32::from_le_bytes),
            Dtype::I64 => numbers(view.data(), |bytes| i64::from_le_bytes(bytes) as f32),
            other => panic!("{}: `{name}` has the dtype {other:?}", path.display()),
        };
        (
            name.to_owned(),
            Tensor {
                shape: view.shape().to_vec(),
                values,
            },
        )
    });
    Tensors(tensors.collect())
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&chunk| number(chunk))
        .collect()
}

/// Writes a safetensors file with one tensor of `f32`.
///
/// # Panics
///
/// If the file cannot be written, or `shape` does not match the number of `values`.
pub fn write_f32(path: &Path, name: &str, shape: &[usize], values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes);
    let tensors = [(name, view.expect("the number of values matches the shape"))];
    serialize_to_file(tensors, None, path).expect("the file can be written");
}

/// A tensor in its stored form.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<usize>,
    /// The bytes of the elements.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// A tensor of zeros.
    pub fn zeros(dtype: Dtype, shape: &[usize]) -> Self {
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        Self {
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }
}

/// Changes the tensors of a safetensors file.
///
/// # Panics
///
/// If the file cannot be read or written.
pub fn edit(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let bytes = fs::read(path).expect("the file to edit can be read");
    let file = SafeTensors::deserialize(&bytes).expect("the file to edit is valid");
    let mut tensors = file
        .iter()
        .map(|(name, view)| {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            (
                name.to_owned(),
                Stored {
                    dtype,
                    shape,
                    bytes: view.data().to_vec(),
                },
            )
        })
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes);
        (name, view.expect("the number of bytes matches the shape"))
    });
    serialize_to_file(views, None, path).expect("the edited file can be written");
}
