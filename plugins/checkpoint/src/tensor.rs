//! A tensor in a mapped file.

use crate::{StoredDtype, dtype::elements_of, mapped::MappedFile};
use std::{
    borrow::Cow,
    fmt, io,
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

/// A tensor of a checkpoint. It is cheap to clone: the elements stay in the mapped file.
#[derive(Clone)]
pub struct StoredTensor {
    /// The type of the elements.
    pub dtype: StoredDtype,
    /// The shape, row-major, outermost dimension first.
    pub shape: Vec<usize>,
    layout: Layout,
    file: Arc<MappedFile>,
}

/// The arrangement of the elements.
#[derive(Clone)]
enum Layout {
    /// The elements are contiguous, in this range of the file.
    Contiguous(Range<usize>),
    /// The elements are a view of a storage that is not contiguous.
    Strided(Arc<Strided>),
}

struct Strided {
    /// The bytes of the storage from the first element on.
    storage: Range<usize>,
    /// The stride of each dimension, in elements.
    strides: Vec<usize>,
    gathered: OnceLock<Vec<u8>>,
}

impl StoredTensor {
    /// Makes a tensor whose elements are contiguous, from byte `start` on. Returns a message if they are not
    /// all inside the file.
    pub(crate) fn contiguous(
        file: &Arc<MappedFile>,
        dtype: StoredDtype,
        shape: Vec<usize>,
        start: usize,
    ) -> Result<Self, String> {
        let range = dtype
            .bytes_of(&shape)
            .and_then(|length| Some(start..start.checked_add(length)?))
            .filter(|range| range.end <= file.bytes().len());
        let Some(range) = range else {
            return Err(format!(
                "{dtype} {shape:?} begins at byte {start} and ends beyond the file, which has {} bytes",
                file.bytes().len()
            ));
        };
        Ok(Self {
            dtype,
            shape,
            layout: Layout::Contiguous(range),
            file: Arc::clone(file),
        })
    }

    /// Makes a view of a storage. `storage` is the range of its bytes in the file; `offset` and `strides`
    /// count elements. Returns a message if the view is not inside the storage or repeats elements.
    pub(crate) fn view(
        file: &Arc<MappedFile>,
        dtype: StoredDtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Range<usize>,
    ) -> Result<Self, String> {
        let size = dtype.block_bytes();
        let stored = storage.len() / size;
        let outside = || {
            format!(
                "{shape:?} with strides {strides:?} from element {offset} on is not inside its storage of \
                 {stored} elements"
            )
        };
        if shape.len() != strides.len() {
            return Err(format!(
                "it has {} dimensions but {} strides",
                shape.len(),
                strides.len()
            ));
        }
        let count = elements_of(&shape).ok_or_else(outside)?;
        if count > stored {
            return Err(format!(
                "{shape:?} has more elements than its storage, which has {stored} (an expanded view?); \
                 save it after `.contiguous()`"
            ));
        }
        let steps = shape.iter().zip(&strides);
        let last = steps.clone().try_fold(offset, |at, (&size, &stride)| {
            at.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        if count > 0 && last.is_none_or(|last| last >= stored) {
            return Err(outside());
        }
        // The stride of a dimension of size 1 has no effect.
        let mut expected = 1;
        let is_contiguous = steps.rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size.max(1);
            fits
        });
        let start = if count == 0 { 0 } else { offset * size };
        let layout = if is_contiguous || count == 0 {
            Layout::Contiguous(storage.start + start..storage.start + start + count * size)
        } else {
            Layout::Strided(Arc::new(Strided {
                storage: storage.start + start..storage.end,
                strides,
                gathered: OnceLock::new(),
            }))
        };
        Ok(Self {
            dtype,
            shape,
            layout,
            file: Arc::clone(file),
        })
    }

    /// Makes a tensor in memory, without a file.
    ///
    /// # Errors
    ///
    /// When memory runs out or `shape` does not match the number of values.
    pub fn of_f32s(values: &[f32], shape: Vec<usize>) -> io::Result<Self> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let file = MappedFile::in_memory(&bytes)?;
        Self::contiguous(&file, StoredDtype::F32, shape, 0).map_err(io::Error::other)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the number of bytes of the elements.
    pub fn byte_len(&self) -> usize {
        self.elements() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// Returns the elements, little-endian and contiguous. They are in the mapped file, at any alignment. A
    /// view that is not contiguous is copied at the first call, and the copy is kept.
    pub fn bytes(&self) -> &[u8] {
        match &self.layout {
            Layout::Contiguous(range) => &self.file.bytes()[range.clone()],
            Layout::Strided(strided) => strided.gathered.get_or_init(|| self.gather(strided)),
        }
    }

    /// Returns the same as [`Self::bytes`], but does not keep a copy.
    pub fn read(&self) -> Cow<'_, [u8]> {
        match &self.layout {
            Layout::Contiguous(range) => Cow::Borrowed(&self.file.bytes()[range.clone()]),
            Layout::Strided(strided) => Cow::Owned(self.gather(strided)),
        }
    }

    fn gather(&self, strided: &Strided) -> Vec<u8> {
        let storage = &self.file.bytes()[strided.storage.clone()];
        let size = self.dtype.block_bytes();
        let mut bytes = Vec::with_capacity(self.byte_len());
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        loop {
            bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
            // Advances the index like an odometer: the last dimension first.
            let mut dimension = self.shape.len();
            loop {
                if dimension == 0 {
                    return bytes;
                }
                dimension -= 1;
                index[dimension] += 1;
                at += strided.strides[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                at -= self.shape[dimension] * strided.strides[dimension];
                index[dimension] = 0;
            }
        }
    }
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        write!(f, "{} {:?} in {path}", self.dtype, self.shape)
    }
}
