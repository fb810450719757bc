//! Weights in safetensors files, mapped into memory and read where they lie.
//!
//! A model is built inside [`load`], which collects every missing, extra or wrongly shaped tensor and
//! reports them together. Nothing is ever filled in.

use crate::Result;
use half::{bf16, f16};
use memmap2::Mmap;
use merv_plugin_api::PluginError;
use safetensors::{Dtype, SafeTensors};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
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
}

impl Elements<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F16(data) => data.len(),
            Self::BF16(data) => data.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of `range`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(data) => Elements::F32(&data[range]),
            Self::F16(data) => Elements::F16(&data[range]),
            Self::BF16(data) => Elements::BF16(&data[range]),
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
        }
    }
}

struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

#[derive(Clone)]
struct Entry {
    file: Arc<MappedFile>,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// A weight matrix `[rows, columns]` that stays in the mapped file.
#[derive(Clone)]
pub struct Matrix {
    /// Absent when `load` has noted the tensor as a problem; such a matrix never leaves `load`.
    entry: Option<Entry>,
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
        let entry = self.entry.as_ref().map(|entry| {
            let row = entry.bytes.len().checked_div(self.rows).unwrap_or(0);
            let start = entry.bytes.start + range.start * row;
            Entry {
                bytes: start..start + range.len() * row,
                ..entry.clone()
            }
        });
        Self {
            entry,
            rows: range.len(),
            columns: self.columns,
        }
    }

    /// The elements, row after row.
    pub fn elements(&self) -> Elements<'_> {
        self.entry
            .as_ref()
            .map_or(Elements::F32(&[]), Entry::elements)
    }
}

impl Entry {
    fn is_integer(&self) -> bool {
        !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    fn elements(&self) -> Elements<'_> {
        let bytes = &self.file.map[self.bytes.clone()];
        match self.dtype {
            Dtype::F16 => Elements::F16(cast(bytes)),
            Dtype::BF16 => Elements::BF16(cast(bytes)),
            // `Scope::take` gives out no other.
            _ => Elements::F32(cast(bytes)),
        }
    }
}

/// The bytes of a tensor as its elements.
fn cast<T: merv_plugin_api::TensorElement>(bytes: &[u8]) -> &[T] {
    // SAFETY: every bit pattern is a valid `TensorElement`. `Files::open` refuses misaligned tensors,
    // so the prefix and suffix are empty.
    let (prefix, elements, suffix) = unsafe { bytes.align_to::<T>() };
    debug_assert!(prefix.is_empty() && suffix.is_empty());
    elements
}

struct Files {
    paths: Vec<PathBuf>,
    tensors: BTreeMap<String, Entry>,
}

impl Files {
    fn open(paths: &[PathBuf]) -> Result<Self> {
        if paths.is_empty() {
            return Err(PluginError::weights("no weights file was given"));
        }
        let mut tensors = BTreeMap::new();
        for path in paths {
            open_file(path, &mut tensors)?;
        }
        Ok(Self {
            paths: paths.to_vec(),
            tensors,
        })
    }

    fn names(&self) -> String {
        self.paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn open_file(path: &Path, tensors: &mut BTreeMap<String, Entry>) -> Result<()> {
    let refuse = |what: String| PluginError::weights(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| {
        PluginError::weights(format!(
            "the weights file {} cannot be opened",
            path.display()
        ))
        .caused_by(&error)
    })?;
    // SAFETY: the map is only read. Another process that shortens the file meanwhile would end this
    // one, as with every mapped model file; weights are replaced by renaming, never in place.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| {
        PluginError::weights(format!(
            "the weights file {} cannot be mapped",
            path.display()
        ))
        .caused_by(&error)
    })?;
    let mapped = Arc::new(MappedFile {
        path: path.to_path_buf(),
        map,
    });
    let parsed = SafeTensors::deserialize(&mapped.map).map_err(|error| {
        PluginError::weights(format!(
            "{} is no whole safetensors file ({} bytes): damaged, cut off, or another format; \
             fetch it again",
            path.display(),
            mapped.map.len()
        ))
        .caused_by(&error)
    })?;
    let start = mapped.map.as_ptr() as usize;
    for (name, view) in parsed.iter() {
        let size = match view.dtype() {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL => 1,
            other => {
                return Err(refuse(format!(
                    "tensor `{name}` is of {other:?}; expected F32, F16 or BF16"
                )));
            }
        };
        let offset = view.data().as_ptr() as usize - start;
        if !(start + offset).is_multiple_of(size) {
            return Err(refuse(format!(
                "tensor `{name}` lies at byte {offset}, not a multiple of {size}; \
                 write the file again with a padded header"
            )));
        }
        let entry = Entry {
            file: Arc::clone(&mapped),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: offset..offset + view.data().len(),
        };
        if let Some(other) = tensors.insert(name.to_owned(), entry) {
            return Err(refuse(format!(
                "tensor `{name}` is also in {}; expected each tensor once",
                other.file.path.display()
            )));
        }
    }
    Ok(())
}

/// What `load` learns while a model takes its tensors.
struct Ledger {
    files: Files,
    used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
}

/// A place in the tree of tensor names, as `torch.nn.Module` nests them.
#[derive(Clone)]
pub struct Scope<'a> {
    ledger: &'a Ledger,
    prefix: String,
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
    let ledger = Ledger {
        files: Files::open(paths)?,
        used: RefCell::default(),
        problems: RefCell::default(),
    };
    let model = build(Scope {
        ledger: &ledger,
        prefix: String::new(),
    });
    let mut problems = ledger.problems.take();
    let used = ledger.used.take();
    for (name, entry) in &ledger.files.tensors {
        if model.is_err() {
            // What it would have taken is not known.
            break;
        }
        let known = unused
            .iter()
            .any(|known| name == known || (known.ends_with('.') && name.starts_with(known)));
        // Position numbers are a buffer that older checkpoints store; no model needs it.
        let known = known || (entry.is_integer() && name.ends_with(".position_ids"));
        if !used.contains(name) && !known {
            problems.push(format!(
                "tensor `{name}` {:?} is not part of the model",
                entry.shape
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
        ledger.files.names(),
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
        }
    }

    /// Whether the files hold `name` below this scope.
    pub fn contains(&self, name: &str) -> bool {
        self.ledger.files.tensors.contains_key(&self.full(name))
    }

    /// The shape of `name` in the files.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.ledger
            .files
            .tensors
            .get(&self.full(name))
            .map(|entry| entry.shape.as_slice())
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Looks `name` up; a problem is noted, and `None` returned.
    fn take(&self, name: &str, shape: &[usize]) -> Option<&Entry> {
        let full = self.full(name);
        let problem = match self.ledger.files.tensors.get(&full) {
            Some(entry) if entry.shape == shape && !entry.is_integer() => {
                self.ledger.used.borrow_mut().insert(full);
                return Some(entry);
            }
            Some(entry) => {
                let problem = if entry.is_integer() {
                    format!(
                        "tensor `{full}` is of {:?}, expected F32, F16 or BF16",
                        entry.dtype
                    )
                } else {
                    let found = &entry.shape;
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
            entry: self.take(name, shape).cloned(),
            rows,
            columns,
        }
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
            Some(entry) => {
                let mut scratch = Vec::new();
                entry.elements().to_f32(&mut scratch).to_vec()
            }
            None => Vec::new(),
        }
    }
}
