//! The values that the machine builds.

use super::global::Global;
use crate::StoredDtype;

/// The index of a value in its pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Id(pub(super) u32);

/// A value of a pickle.
#[derive(Debug)]
pub(in super::super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// A floating-point number. Its value is not used.
    Float,
    Str(&'a str),
    /// Bytes. Their values are not used.
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Keys and values, in the order in which they were set. A key may occur twice.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// The index of a storage.
    Storage(usize),
    /// The index of a tensor.
    Tensor(usize),
    /// A `numpy.dtype` of plain numbers.
    NumpyDtype,
    /// A numpy number.
    NumpyScalar,
    /// A `torch.device`.
    Device,
}

impl Value<'_> {
    /// Returns whether it contains other values.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Dict(_) | Self::List(_) | Self::Tuple(_))
    }

    /// Returns its kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float => "a number",
            Self::Str(_) => "a string",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a type or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::NumpyDtype => "a dtype",
            Self::NumpyScalar => "a numpy number",
            Self::Device => "a device",
        }
    }
}

/// A contiguous sequence of elements. Tensors are views of it.
#[derive(Debug)]
pub(in super::super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: StoredDtype,
    pub elements: usize,
}

/// A tensor as the pickle describes it.
#[derive(Debug)]
pub(in super::super) struct View {
    /// The index of the storage.
    pub storage: usize,
    /// The offset of the first element.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}
