//! The operands of a product.

use crate::kernels::{elements::Elements, epilogue::Epilogue};

/// The first operand, `[rows, inputs]`.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// Stored row by row.
    Rows(&'a [f32]),
    /// Stored column by column: the stored matrix is the transpose.
    Columns(&'a [f32]),
}

/// The second operand, `[inputs, outputs]`.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Stored row by row.
    Rows(Elements<'a>),
    /// Stored column by column, as the weights of layers are.
    Columns(Elements<'a>),
}

/// The form in which the operands' elements are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Unchanged.
    Exact,
    /// Rounded to `bf16`.
    Rounded,
    /// Two inputs at a time, both rounded to `bf16`; see [`pairs`](crate::kernels::pairs).
    Paired,
}

/// The sizes and operands of a product. Their lengths have been checked.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    /// `[rows, steps]`, in the form that is multiplied.
    pub x: Left<'a>,
    /// In the form that is stored.
    pub weight: Right<'a>,
    pub form: Form,
    pub rows: usize,
    pub inputs: usize,
    /// The number of inputs, or of pairs of inputs.
    pub steps: usize,
    pub outputs: usize,
    pub epilogue: Epilogue<'a>,
    /// Whether the product is added to the output instead of replacing it.
    pub added: bool,
}

impl<'a> Product<'a> {
    /// Creates a product of the unchanged operands, without an epilogue.
    pub fn new(x: Left<'a>, weight: Right<'a>, [rows, inputs, outputs]: [usize; 3]) -> Self {
        Self {
            x,
            weight,
            form: Form::Exact,
            rows,
            inputs,
            steps: inputs,
            outputs,
            epilogue: Epilogue::default(),
            added: false,
        }
    }
}
