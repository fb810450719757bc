//! What the machine makes.

use super::global::Global;
use crate::StoredDtype;

/// The number of a value in its pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Id(pub(super) u32);

/// A value of a pickle.
#[derive(Debug)]
pub(in super::super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// A number that nothing asks for.
    Float,
    Str(&'a str),
    /// Bytes that nothing asks for.
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// In the order in which the keys were set; one may occur twice.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// By its number among the storages.
    Storage(usize),
    /// By its number among the tensors.
    Tensor(usize),
    /// A `numpy.dtype` of plain numbers.
    NumpyDtype,
    /// A number of numpy.
    NumpyScalar,
    /// A `torch.device`.
    Device,
}

impl Value<'_> {
    /// Whether it holds other values.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Dict(_) | Self::List(_) | Self::Tuple(_))
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
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
            Self::NumpyScalar => "a number of numpy",
            Self::Device => "a device",
        }
    }
}

/// Elements that lie one after the other, of which tensors are views.
#[derive(Debug)]
pub(in super::super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: StoredDtype,
    pub elements: usize,
}

/// A tensor as the pickle describes it.
#[derive(Debug)]
pub(in super::super) struct View {
    /// Which storage, by number.
    pub storage: usize,
    /// Of the first element.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}
