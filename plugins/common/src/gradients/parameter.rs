//! A weight of a model, mapped or trained.

use crate::{
    Result,
    kernels::{adamw::AdamWParameter, elements::Elements},
    matrix::Matrix,
    precision::Precision,
};
use merv_plugin_api::{AdamWStep, PluginError, StatePart};
use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
};

/// A weight of a model. It stays in the mapped file until it is trained. From then on it is `f32` in memory,
/// with its gradient and the optimizer's state. Clones share the weight.
#[derive(Clone)]
pub struct Parameter(Arc<Inner>);

struct Inner {
    name: String,
    shape: Vec<usize>,
    rows: usize,
    columns: usize,
    precision: Precision,
    stored: Stored,
    trained: OnceLock<Trained>,
}

enum Stored {
    Mapped(Matrix),
    /// Small weights are copied.
    Copied(Vec<f32>),
}

struct Trained {
    weights: RwLock<Vec<f32>>,
    gradient: Mutex<Gradient>,
    /// Empty until the first step.
    moments: Mutex<[Vec<f32>; 2]>,
}

struct Gradient {
    /// Ignored if `zero`.
    values: Vec<f32>,
    zero: bool,
}

/// The elements of a [`Parameter`], which do not change during the borrow.
pub enum Values<'a> {
    /// The stored elements.
    Stored(Elements<'a>),
    /// The trained elements.
    Trained(RwLockReadGuard<'a, Vec<f32>>),
}

impl Values<'_> {
    /// Returns the elements, row by row.
    pub fn elements(&self) -> Elements<'_> {
        match self {
            Self::Stored(elements) => *elements,
            Self::Trained(values) => Elements::F32(values),
        }
    }

    /// Returns the elements as `f32`. Elements of another dtype are converted, the others borrowed.
    pub fn f32s(&self) -> Cow<'_, [f32]> {
        match self.elements() {
            Elements::F32(values) => Cow::Borrowed(values),
            other => {
                let mut scratch = Vec::new();
                other.to_f32(&mut scratch);
                Cow::Owned(scratch)
            }
        }
    }
}

/// Locks `mutex`, even after a panic: the locked values are only numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Parameter {
    /// Creates a weight that stays mapped. All dimensions but the first become columns.
    pub(crate) fn mapped(
        name: String,
        shape: &[usize],
        matrix: Matrix,
        precision: Precision,
    ) -> Self {
        let sizes = (matrix.rows(), matrix.columns());
        Self::of(name, shape, sizes, Stored::Mapped(matrix), precision)
    }

    /// Creates a small weight: a bias, a norm's scale, a position embedding.
    pub(crate) fn copied(name: String, shape: &[usize], values: Vec<f32>) -> Self {
        let sizes = (1, shape.iter().product());
        Self::of(name, shape, sizes, Stored::Copied(values), Precision::F32)
    }

    /// Creates a vector that is not in a file and is never trained.
    pub(crate) fn constant(values: Vec<f32>) -> Self {
        Self::copied(String::new(), &[values.len()], values)
    }

    /// Creates a weight matrix that is not in a file.
    #[cfg(test)]
    pub(crate) fn matrix(values: Vec<f32>, sizes: (usize, usize), precision: Precision) -> Self {
        let shape = [sizes.0, sizes.1];
        let stored = Stored::Copied(values);
        Self::of("weight".to_owned(), &shape, sizes, stored, precision)
    }

    fn of(
        name: String,
        shape: &[usize],
        (rows, columns): (usize, usize),
        stored: Stored,
        precision: Precision,
    ) -> Self {
        Self(Arc::new(Inner {
            name,
            shape: shape.to_vec(),
            rows,
            columns,
            precision,
            stored,
            trained: OnceLock::new(),
        }))
    }

    /// Returns the name in the file.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the shape in the file.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Returns the first dimension, which is the number of outputs of a linear layer. 1 for a small weight.
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// Returns the product of the other dimensions, which is the number of inputs of a linear layer. For a
    /// small weight, it is the number of elements.
    pub fn columns(&self) -> usize {
        self.0.columns
    }

    /// Returns the precision of products with it.
    pub fn precision(&self) -> Precision {
        self.0.precision
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.0.rows * self.0.columns
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the current elements.
    pub fn values(&self) -> Values<'_> {
        match self.0.trained.get() {
            Some(trained) => {
                let weights = trained.weights.read();
                Values::Trained(weights.unwrap_or_else(PoisonError::into_inner))
            }
            None => Values::Stored(self.stored()),
        }
    }

    fn stored(&self) -> Elements<'_> {
        match &self.0.stored {
            Stored::Mapped(matrix) => matrix.elements(),
            Stored::Copied(values) => Elements::F32(values),
        }
    }

    /// Returns whether it is trained.
    pub fn is_trained(&self) -> bool {
        self.0.trained.get().is_some()
    }

    /// Returns why it cannot be trained, or `None` if it can.
    pub(super) fn untrainable(&self) -> Option<String> {
        match self.stored() {
            Elements::Quantized(kind, _) => {
                Some(format!("`{}` is quantised ({kind})", self.name()))
            }
            _ => None,
        }
    }

    /// Copies the elements into memory, where they are trained.
    pub(super) fn train(&self) {
        self.0.trained.get_or_init(|| {
            let weights = Values::Stored(self.stored()).f32s().into_owned();
            Trained {
                gradient: Mutex::new(Gradient {
                    values: vec![0.0; weights.len()],
                    zero: true,
                }),
                weights: RwLock::new(weights),
                moments: Mutex::default(),
            }
        });
    }

    /// Adds to the gradient with a function that writes all of it, or adds to it if its second argument is
    /// true. Does nothing if the parameter is not trained.
    pub fn update_gradient(&self, write: impl FnOnce(&mut [f32], bool)) {
        if let Some(trained) = self.0.trained.get() {
            let mut gradient = lock(&trained.gradient);
            let added = !std::mem::replace(&mut gradient.zero, false);
            write(&mut gradient.values, added);
        }
    }

    /// Adds to the gradient with a function that adds to some of its elements.
    pub fn add_to_gradient(&self, add: impl FnOnce(&mut [f32])) {
        self.update_gradient(|gradient, added| {
            if !added {
                gradient.fill(0.0);
            }
            add(gradient);
        });
    }

    /// Passes one part of the state to `visit`, which may change it. A gradient to which nothing was added is zeros.
    pub(super) fn visit<R>(
        &self,
        part: StatePart,
        visit: impl FnOnce(&mut [f32]) -> Result<R>,
    ) -> Result<R> {
        let trained = self.trained()?;
        match part {
            StatePart::WEIGHTS => visit(&mut write(&trained.weights)),
            StatePart::GRADIENT => visit(&mut self.gradient(trained).values),
            StatePart::FIRST_MOMENT => visit(&mut self.moments(trained)[0]),
            StatePart::SECOND_MOMENT => visit(&mut self.moments(trained)[1]),
            other => Err(PluginError::unsupported(format!(
                "`{}` has weights, a gradient and the two moments of AdamW; found the {other}",
                self.name()
            ))),
        }
    }

    pub(super) fn clear(&self) {
        if let Some(trained) = self.0.trained.get() {
            lock(&trained.gradient).zero = true;
        }
    }

    /// Updates the elements in `range` with their gradients.
    pub(super) fn step(&self, step: &AdamWStep, range: Range<usize>) -> Result<()> {
        let trained = self.trained()?;
        let mut weights = write(&trained.weights);
        let mut moments = self.moments(trained);
        let gradient = self.gradient(trained);
        let parameter = AdamWParameter {
            name: self.name(),
            shape: self.shape(),
            values: &mut weights[range.clone()],
            gradient: &gradient.values[range.clone()],
            moments: moments.each_mut().map(|moment| &mut moment[range.clone()]),
        };
        parameter.apply(step);
        Ok(())
    }

    fn trained(&self) -> Result<&Trained> {
        self.0.trained.get().ok_or_else(|| {
            PluginError::invalid(format!(
                "`{}` is not trained, so it has no state of the optimizer",
                self.name()
            ))
        })
    }

    /// Returns the gradient, with zeros if nothing was added.
    fn gradient<'t>(&self, trained: &'t Trained) -> MutexGuard<'t, Gradient> {
        let mut gradient = lock(&trained.gradient);
        if std::mem::replace(&mut gradient.zero, false) {
            gradient.values.fill(0.0);
        }
        gradient
    }

    /// Returns both moments, which are zeros before the first step.
    fn moments<'t>(&self, trained: &'t Trained) -> MutexGuard<'t, [Vec<f32>; 2]> {
        let mut moments = lock(&trained.moments);
        moments
            .iter_mut()
            .for_each(|moment| moment.resize(self.len(), 0.0));
        moments
    }
}
