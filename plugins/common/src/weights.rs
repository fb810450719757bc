//! Weights, read where their files are mapped into memory.
//!
//! A model is built inside [`load`], which collects every missing, extra or wrongly shaped tensor and
//! reports them together. Nothing is ever filled in.

use crate::{
    Result,
    gradients::{Parameter, Parameters},
    kernels::quantized::dequantize,
    precision::Precision,
};
use half::{bf16, f16};
use merv_checkpoint::{Checkpoint, CheckpointError, GgmlType, Mapping, StoredDtype, StoredTensor};
use merv_plugin_api::{PluginError, TensorElement};
use std::{
    cell::RefCell, collections::BTreeSet, error::Error, ops::Range, path::PathBuf, sync::Arc,
};

/// How many problems an error lists before it only counts them.
const LISTED_PROBLEMS: usize = 12;

/// Elements of a mapped tensor, in the dtype of the file.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Brain floating point.
    BF16(&'a [bf16]),
    /// Blocks of quantised numbers.
    Quantized(GgmlType, &'a [u8]),
}

impl Elements<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F16(data) => data.len(),
            Self::BF16(data) => data.len(),
            Self::Quantized(kind, blocks) => blocks.len() / kind.block_bytes() * kind.block_len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of `range`; of quantised ones, whole blocks: rows of a matrix are.
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(data) => Elements::F32(&data[range]),
            Self::F16(data) => Elements::F16(&data[range]),
            Self::BF16(data) => Elements::BF16(&data[range]),
            Self::Quantized(kind, blocks) => {
                let byte = |element: usize| element / kind.block_len() * kind.block_bytes();
                Elements::Quantized(*kind, &blocks[byte(range.start)..byte(range.end)])
            }
        }
    }

    /// The elements as `f32`: borrowed when they are, converted into `scratch` when not.
    pub fn to_f32<'s>(&'s self, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        use half::slice::HalfFloatSliceExt;
        match self {
            Self::F32(data) => data,
            Self::F16(data) => {
                scratch.resize(data.len(), 0.0);
                data.convert_to_f32_slice(scratch);
                scratch
            }
            Self::BF16(data) => {
                scratch.resize(data.len(), 0.0);
                data.convert_to_f32_slice(scratch);
                scratch
            }
            Self::Quantized(kind, blocks) => {
                scratch.resize(self.len(), 0.0);
                dequantize(*kind, blocks, scratch);
                scratch
            }
        }
    }
}

/// A tensor that a model has taken, or some rows of it.
#[derive(Clone)]
struct Taken {
    tensor: StoredTensor,
    /// The bytes at an address where their type may lie, if they do not lie so in the file.
    aligned: Option<Arc<Aligned>>,
    /// Which elements, where several rows are meant.
    elements: Range<usize>,
}

enum Aligned {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// A weight matrix `[rows, columns]` that stays in the mapped file.
#[derive(Clone)]
pub struct Matrix {
    /// Absent when `load` has noted the tensor as a problem; such a matrix never leaves `load`.
    taken: Option<Taken>,
    rows: usize,
    columns: usize,
}

impl Matrix {
    /// Rows: the outputs of a linear layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the inputs of a linear layer.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows of `range` as a matrix of their own, still mapped.
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

    /// The elements, row after row.
    pub fn elements(&self) -> Elements<'_> {
        self.taken
            .as_ref()
            .map_or(Elements::F32(&[]), Taken::elements)
    }

    /// The tensor in the file that the matrix is taken from, of which it may be some rows.
    pub fn stored(&self) -> Option<&StoredTensor> {
        self.taken.as_ref().map(|taken| &taken.tensor)
    }
}

impl Taken {
    /// All of `tensor`, which is of a type that [`Elements`] has.
    fn new(tensor: &StoredTensor) -> Self {
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

    fn elements(&self) -> Elements<'_> {
        let all = match (self.aligned.as_deref(), self.tensor.dtype) {
            (Some(Aligned::F32(data)), _) => Elements::F32(data),
            (Some(Aligned::F16(data)), _) => Elements::F16(data),
            (Some(Aligned::BF16(data)), _) => Elements::BF16(data),
            (None, StoredDtype::F16) => Elements::F16(cast(self.tensor.bytes())),
            (None, StoredDtype::BF16) => Elements::BF16(cast(self.tensor.bytes())),
            (None, StoredDtype::Quantized(kind)) => Elements::Quantized(kind, self.tensor.bytes()),
            // `Scope::take` gives out no other.
            (None, _) => Elements::F32(cast(self.tensor.bytes())),
        };
        all.slice(self.elements.clone())
    }
}

/// The bytes of a tensor as its elements.
fn cast<T: TensorElement>(bytes: &[u8]) -> &[T] {
    // SAFETY: every bit pattern is a valid `TensorElement`. `Taken::new` copies what is misaligned, so
    // the prefix and suffix are empty.
    let (prefix, elements, suffix) = unsafe { bytes.align_to::<T>() };
    debug_assert!(prefix.is_empty() && suffix.is_empty());
    elements
}

/// A copy of the elements if they lie where their type may not. Older writers pad neither safetensors
/// headers nor the entries of PyTorch's zip files.
fn unaligned<T, const N: usize>(bytes: &[u8], element: fn([u8; N]) -> T) -> Option<Vec<T>> {
    if bytes.as_ptr().cast::<T>().is_aligned() {
        return None;
    }
    let (elements, _) = bytes.as_chunks::<N>();
    Some(elements.iter().map(|&bytes| element(bytes)).collect())
}

/// Whether [`Elements`] has the type of these elements.
fn computable(tensor: &StoredTensor) -> bool {
    matches!(
        tensor.dtype,
        StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16 | StoredDtype::Quantized(_)
    )
}

/// Maps `paths`, in any format that [`Checkpoint`] reads, and renames the tensors; those for which
/// `rename` gives no name belong to another model and are left out.
///
/// # Errors
///
/// When a file cannot be read or is damaged, when two tensors have the same name, and when every tensor
/// belongs to another model.
pub fn open(paths: &[PathBuf], rename: impl Fn(&str) -> Option<String>) -> Result<Checkpoint> {
    let weights = |error: CheckpointError| {
        let outer = PluginError::weights(&error);
        match error.source() {
            Some(source) => outer.caused_by(source),
            None => outer,
        }
    };
    let all = Checkpoint::open(paths).map_err(weights)?;
    let count = all.len();
    let renamed = all.rename(rename).map_err(weights)?;
    if renamed.is_empty() && count > 0 {
        return Err(PluginError::weights(format!(
            "{} holds {count} tensors, but none of this model: they belong to other parts (a checkpoint \
             of the align stage holds no language model)",
            listed(renamed.paths())
        )));
    }
    Ok(renamed)
}

fn listed(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// A tensor that tells sizes: the names that it may have, the shape that the config gives it, and the keys of
/// the config which make that shape.
pub type Telling<'a> = (&'a [&'a str], &'a [usize], &'a str);

/// Refuses weights that have other sizes than their config before they are loaded. A tensor that is not
/// there is left to [`load`], and so is everything without `paths`.
///
/// # Errors
///
/// When a file cannot be read, or a tensor has another shape; the message names it, both shapes and the keys.
pub fn agree(paths: &[PathBuf], telling: &[Telling<'_>]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let checkpoint = open(paths, |name| Some(name.to_owned()))?;
    for (names, expected, keys) in telling {
        let stored = names
            .iter()
            .find_map(|name| Some((name, checkpoint.get(name)?)));
        if let Some((name, tensor)) = stored
            && tensor.shape != *expected
        {
            return Err(PluginError::weights(format!(
                "{} holds `{name}` of shape {:?}, but {keys} of the model's config make {expected:?}; \
                 correct them, or use the config file that belongs to these weights",
                listed(checkpoint.paths()),
                tensor.shape
            )));
        }
    }
    Ok(())
}

/// What `load` learns while a model takes its tensors.
struct Ledger {
    checkpoint: Checkpoint,
    used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
    /// In the order in which they were taken.
    parameters: RefCell<Vec<Parameter>>,
}

/// A place in the tree of tensor names, as `torch.nn.Module` nests them.
#[derive(Clone)]
pub struct Scope<'a> {
    ledger: &'a Ledger,
    prefix: String,
    precision: Precision,
}

/// Maps `paths` and builds a model from their tensors.
///
/// `unused` names the tensors that the files may hold although `build` does not take them: a name, or
/// a prefix that ends in a dot.
///
/// # Errors
///
/// When a file cannot be read, or is damaged; when `build` fails; and when any tensor is missing, of
/// another shape, or neither taken nor in `unused`: all of them are listed, with expected and found.
pub fn load<T>(
    paths: &[PathBuf],
    unused: &[&str],
    build: impl FnOnce(Scope<'_>) -> Result<T>,
) -> Result<T> {
    let checkpoint = open(paths, |name| Some(name.to_owned()))?;
    load_checkpoint(checkpoint, unused, build)
}

/// As [`load`], from a checkpoint that is open: renamed by [`open`], or looked at before.
///
/// # Errors
///
/// As [`load`].
pub fn load_checkpoint<T>(
    checkpoint: Checkpoint,
    unused: &[&str],
    build: impl FnOnce(Scope<'_>) -> Result<T>,
) -> Result<T> {
    let ledger = Ledger {
        checkpoint,
        used: RefCell::default(),
        problems: RefCell::default(),
        parameters: RefCell::default(),
    };
    let model = build(Scope {
        ledger: &ledger,
        prefix: String::new(),
        precision: Precision::F32,
    });
    let mut problems = ledger.problems.take();
    let used = ledger.used.take();
    for (name, tensor) in ledger.checkpoint.iter() {
        if model.is_err() {
            // What it would have taken is not known.
            break;
        }
        let known = unused
            .iter()
            .any(|&known| name == known || (known.ends_with('.') && name.starts_with(known)));
        // Position numbers are a buffer that older checkpoints store; no model needs it.
        let known = known || (!tensor.dtype.is_float() && name.ends_with(".position_ids"));
        if !used.contains(name) && !known {
            problems.push(format!(
                "tensor `{name}` {:?} is not part of the model",
                tensor.shape
            ));
        }
    }
    if problems.is_empty() {
        return model;
    }
    let count = problems.len();
    let mut list = problems
        .iter()
        .take(LISTED_PROBLEMS)
        .cloned()
        .collect::<Vec<_>>();
    if count > LISTED_PROBLEMS {
        list.push(format!("and {} more", count - LISTED_PROBLEMS));
    }
    Err(PluginError::weights(format!(
        "{} does not hold this model ({}): {}. \
         Check that the weights and the config file belong together",
        listed(ledger.checkpoint.paths()),
        if count == 1 {
            "1 tensor does not fit".to_owned()
        } else {
            format!("{count} tensors do not fit")
        },
        list.join("; ")
    )))
}

impl Scope<'_> {
    /// The scope below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            ledger: self.ledger,
            prefix: self.full(&name.to_string()),
            precision: self.precision,
        }
    }

    /// The same scope, whose matrices are multiplied in `precision`; `f32` without.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What matrices are multiplied in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The files, as they are mapped.
    pub fn mapping(&self) -> Mapping {
        self.ledger.checkpoint.mapping()
    }

    /// Whether the files hold `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.ledger.checkpoint.get(&self.full(name)).is_some()
    }

    /// The shape of `name` in the files.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.ledger
            .checkpoint
            .get(&self.full(name))
            .map(|tensor| tensor.shape.as_slice())
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Looks `name` up; a problem is noted, and `None` returned.
    fn take(&self, name: &str, shape: &[usize]) -> Option<Taken> {
        let full = self.full(name);
        let problem = match self.ledger.checkpoint.get(&full) {
            Some(tensor) if tensor.shape == shape && computable(tensor) => {
                self.ledger.used.borrow_mut().insert(full);
                return Some(Taken::new(tensor));
            }
            Some(tensor) => {
                let problem = if !computable(tensor) {
                    format!(
                        "tensor `{full}` is of {}, expected F32, F16, BF16 or one of ggml's quantised types",
                        tensor.dtype
                    )
                } else {
                    let found = &tensor.shape;
                    format!("tensor `{full}` has shape {found:?}, expected {shape:?}")
                };
                self.ledger.used.borrow_mut().insert(full);
                problem
            }
            None => format!("tensor `{full}` {shape:?} is missing"),
        };
        self.ledger.problems.borrow_mut().push(problem);
        None
    }

    /// A matrix that stays mapped. `shape` may have more than two dimensions (a convolution's kernel);
    /// all but the first make up the columns.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Matrix {
        let (rows, columns) = match shape.split_first() {
            Some((rows, rest)) => (*rows, rest.iter().product()),
            None => (1, 1),
        };
        Matrix {
            taken: self.take(name, shape),
            rows,
            columns,
        }
    }

    /// As [`Self::matrix`], to be trained too.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Parameter {
        let matrix = self.matrix(name, shape);
        self.noted(Parameter::mapped(
            self.full(name),
            shape,
            matrix,
            self.precision,
        ))
    }

    /// As [`Self::vector`], to be trained too.
    pub fn small_parameter(&self, name: &str, shape: &[usize]) -> Parameter {
        let values = self.vector(name, shape);
        self.noted(Parameter::copied(self.full(name), shape, values))
    }

    fn noted(&self, parameter: Parameter) -> Parameter {
        let mut all = self.ledger.parameters.borrow_mut();
        all.push(parameter.clone());
        parameter
    }

    /// All parameters that were taken so far, from this scope or any other.
    pub fn parameters(&self) -> Parameters {
        Parameters::new(self.ledger.parameters.borrow().clone())
    }

    /// Notes a problem if `name` is not there, without taking it: for parts that belong to the model but
    /// not to the computation.
    pub fn require(&self, name: &str) {
        if !self.contains(name) {
            let problem = format!("tensor `{}` is missing", self.full(name));
            self.ledger.problems.borrow_mut().push(problem);
        }
    }

    /// A small tensor copied out as `f32`: a bias, a norm's scale, a position embedding. Empty, and noted
    /// as a problem, when it does not fit.
    pub fn vector(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        match self.take(name, shape) {
            Some(taken) => {
                let mut scratch = Vec::new();
                taken.elements().to_f32(&mut scratch).to_vec()
            }
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_askew_is_copied() {
        let mut bytes = [0u8; 64];
        let start = bytes.as_ptr().align_offset(4);
        for (index, value) in [1.5f32, -2.0, 3.25].iter().enumerate() {
            bytes[start + 1 + index * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        let askew = &bytes[start + 1..start + 13];
        assert_eq!(
            unaligned(askew, f32::from_le_bytes),
            Some(vec![1.5, -2.0, 3.25])
        );
        assert_eq!(
            unaligned(&bytes[start..start + 12], f32::from_le_bytes),
            None
        );
    }
}
